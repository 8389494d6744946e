"""A sweep refuses what it cannot vary, finds its best trial, and says how that was chosen."""

import html
import json
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from imagesets.errors import WrongInput
from orchestrator.pages.sweep_page import write_page
from orchestrator.planning.experiment import Request
from orchestrator.planning.score_recipe import Metric
from orchestrator.reading.groups import Runs
from orchestrator.reading.numbers import told_spread
from orchestrator.sweeps.axes import split
from orchestrator.sweeps.sweep import Sweep
from orchestrator.sweeps.sweep_results import Findings, compared, findings, read_sweep, slices
from orchestrator.sweeps.sweep_table import sweep_columns, sweep_rows
from orchestrator.sweeps.trial import best_threshold
from tests.conftest import write_image_set
from tests.finished_run import finished_run
from tests.launching import command


def sweep_of(*vary: str, store: Path = Path("store"), trials: int = 1) -> Sweep:
    axes, thresholds = split(vary)
    return Sweep(Request("recam", store=store), axes, thresholds, [0, 1], trials)


@pytest.mark.parametrize("page", ["experiments.md", "tables.md"])
def test_the_sweeps_of_the_docs_are_sweeps(page: str) -> None:
    text = (Path(__file__).parent.parent / "docs" / page).read_text(encoding="utf-8")
    written = [shlex.split(line) for line in text.splitlines() if line.startswith("    wsss-orch sweep ")]
    assert written
    for _, _, *words in written:
        given = list(zip(words[::2], words[1::2], strict=True))
        one, (axes, thresholds) = dict(given), split([value for option, value in given if option == "--vary"])
        how = {name: one.get(f"--{name.replace('_', '-')}", "") for name in ("until", "by", "stop_early")}
        trials, search = int(one.get("--trials", 1)), one.get("--search", "grid")
        Sweep(Request(one["--method"]), axes, thresholds, [0], trials=trials, search=search, **how).check()


@pytest.mark.parametrize(
    ("vary", "why"),
    [
        ("recam.lambdda=0.1,1", "did you mean 'recam.lambda'"),
        ("recam.lambda=-1,1", "must be at least 0"),
        ("images.size=64,128", "images.size cannot be varied"),
    ],
)
def test_every_value_is_checked_before_anything_runs(vary: str, why: str) -> None:
    with pytest.raises(WrongInput, match=why):
        sweep_of(vary).check()


def test_a_score_that_no_stage_makes_is_refused_before_the_first_trial() -> None:
    sweep = sweep_of("recam.lambda=0.1,1")
    for name in ("", "seed.miou/train", "seg.precision/val"):
        replace(sweep, by=name).check()
    for name in ("nosuch", "seed.miou/val", "miou/train"):
        with pytest.raises(WrongInput, match=f"--by {name} is no score of this sweep, whose scores are: .*seed.METRIC/train"):
            replace(sweep, by=name).check()
    with pytest.raises(WrongInput, match=r"seed has no metric 'miuo'; did you mean 'miou'\?"):
        replace(sweep, by="seed.miuo/train").check()


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ({"search": "hyperopt"}, "--search hyperopt is none of grid, random, optuna"),
        ({"search": "optuna", "by": "seg.miou/val"}, "needs a budget of several trials"),
        ({"search": "optuna", "trials": 9}, "needs a score, such as --by"),
        ({"search": "random", "axes": []}, "needs a setting to vary"),
        ({"stop_early": "time"}, "--stop-early time is neither loss nor score"),
    ],
)
def test_a_search_is_told_what_it_lacks(how: dict[str, Any], why: str) -> None:
    with pytest.raises(WrongInput, match=why):
        replace(sweep_of("recam.lambda=0.1,1"), **how).check()


def test_random_trials_are_drawn_from_lists() -> None:
    replace(sweep_of("recam.lambda=0.1,1"), search="random", trials=5).check()


def test_several_trials_of_lists_are_refused() -> None:
    with pytest.raises(WrongInput, match="these settings have lists"):
        sweep_of("recam.lambda=0.1,1", trials=5).check()


def test_the_name_of_a_sweep_depends_on_all_that_it_varies() -> None:
    names = {
        sweep_of(*vary).name for vary in (["recam.lambda=1"], ["recam.lambda=2"], ["recam.lambda=1", "seed.threshold=0:1:0.1"])
    }
    assert len(names) == 3


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[Findings, Path]:
    """The findings of a sweep over two settings, one run of which failed."""
    root = tmp_path_factory.mktemp("sweep")
    images, trials = write_image_set(root / "images", train=8), []
    for epochs in (1, 2, 3):
        for seed in (0, 1):
            prepared, _, _ = finished_run(
                root / "store", images, "cam+none", random_seed=seed, assignments=(f"cam.epochs={epochs}",)
            )
        trials.append({"values": {"cam.epochs": epochs}, "group": prepared.group, "failed": {}})
    trials[0]["failed"] = {"1": "ValueError: no"}
    about = {
        "name": "cam-sweep",
        "method": "cam+none",
        "images": "folder",
        "random_seeds": [0, 1],
        "seed.threshold": [0, 0.6, 0.01],
    }
    record = {**about, "axes": [{"name": "cam.epochs", "values": [1, 2, 3], "distribution": ""}], "trials": trials}
    return findings(Runs(root / "store"), record), root


def test_the_best_comes_first_and_how_it_was_chosen_is_said(found: tuple[Findings, Path]) -> None:
    scores = [trial.score("seg.miou/val").mean for trial in found[0].trials]
    assert scores == sorted(scores, reverse=True) and len(set(scores)) == 3 and found[0].metric == "seg.miou/val"
    epochs = found[0].trials[0].values["cam.epochs"]
    best, oracle, *_ = found[0].verdict()
    assert best == f"best of 3: cam.epochs={epochs} by seg.miou/val, {100 * scores[0]:.1f} (n=2)"
    assert (
        oracle == "this score is an oracle (optimistic: chosen on the same masks, those of val); report a score on another list"
    )
    assert found[0].failed == ["cam.epochs=1, random seed 1 failed: ValueError: no"]


def mean_curves(found: Findings) -> dict[tuple[int, float], float]:
    """mIoU of the seeds by epochs and threshold, mean over the runs of each trial."""
    means = {}
    for trial in found.trials:
        curves = [run["rows"][0]["curve"] for run in trial.group.runs]
        for place, threshold in enumerate(curves[0]["threshold"]):
            means[trial.values["cam.epochs"], threshold] = sum(curve["miou"][place] for curve in curves) / len(curves)
    return means


def test_settings_and_threshold_are_chosen_together_with_the_words_that_make_them(found: tuple[Findings, Path]) -> None:
    means = mean_curves(found[0])
    epochs, threshold = max(means, key=lambda point: means[point])
    cut = found[0].cut
    assert cut is not None and (cut.trial.values, cut.threshold) == ({"cam.epochs": epochs}, threshold)
    assert cut.value == pytest.approx(means[epochs, threshold])
    words = f"--set cam.epochs={epochs} --set cam.seed_threshold={threshold}"
    said, _ = found[0].verdict()[-2:]
    assert said.startswith("best of settings and threshold together, chosen on the same masks: ")
    assert said.endswith(f": {words}, mIoU {100 * cut.value:.1f} % of seeds on train (n=2)")
    (seed_at,) = (run["rows"][0]["metrics"]["miou"] for run in cut.trial.group.runs if run["random_seed"] == 0)
    assert seed_at < cut.value  # the fixed threshold is not the best one here


def test_the_verdict_says_what_the_threshold_changes_for_this_method(found: tuple[Findings, Path]) -> None:
    assert "cam.seed_threshold also changes none-masks and what depends on it" in found[0].verdict()  # it cuts pseudo masks too
    root = found[1]
    prepared, _, _ = finished_run(root / "store", root / "images", "lpcam+irn")
    trials = [{"values": {}, "group": prepared.group, "failed": {}}]
    record = {**found[0].record, "axes": [], "trials": trials, "random_seeds": [0]}
    best, changes = findings(Runs(root / "store"), record, "seed.miou/train").verdict()
    assert ": --set lpcam.seed_threshold=" in best
    assert changes == "lpcam.seed_threshold changes only this score, not the pseudo masks and segmentations"


def test_an_unknown_score_names_the_nearest(found: tuple[Findings, Path]) -> None:
    runs, record = Runs(found[1] / "store"), found[0].record
    assert findings(runs, record, "seed.fp/train").metric == "seed.fp/train"
    with pytest.raises(WrongInput, match=r"did you mean .seed\.miou/train."):
        findings(runs, record, "seed.miuo/train")


def test_a_trial_is_its_sweep_s_random_seeds_whatever_else_was_launched(found: tuple[Findings, Path]) -> None:
    trials = [{**trial, "failed": {}} for trial in found[0].record["trials"]]
    one = findings(Runs(found[1] / "store"), {**found[0].record, "random_seeds": [0], "trials": trials})
    assert [[run["random_seed"] for run in trial.group.runs] for trial in one.trials] == [[0]] * 3


def test_a_sweep_whose_runs_were_removed_says_which(found: tuple[Findings, Path]) -> None:
    record = {**found[0].record, "random_seeds": [0, 7]}
    with pytest.raises(WrongInput, match=r"sweep cam-sweep: run \S+-7 of cam.epochs=1 is no longer in .*runs; the command that"):
        findings(Runs(found[1] / "store"), record)


def test_a_comparison_of_a_sweep_names_the_trials_without_scores(found: tuple[Findings, Path], tmp_path: Path) -> None:
    of_all = [{**trial, "stopped": "", "failed": {}} for trial in found[0].record["trials"]]
    of_all[0]["failed"], of_all[1]["stopped"] = {"0": "ValueError: no", "1": "ValueError: no"}, "loss 3 at epoch 1"
    (tmp_path / "runs").symlink_to(found[1] / "store/runs")
    (tmp_path / "stages").symlink_to(found[1] / "store/stages")
    (tmp_path / "sweeps/cam-sweep").mkdir(parents=True)
    (tmp_path / "sweeps/cam-sweep/sweep.json").write_text(json.dumps({**found[0].record, "trials": of_all}))
    comparison = compared(Runs(tmp_path), ["cam-sweep"])
    assert [entry.group.name for entry in comparison.entries] == [of_all[2]["group"]]
    assert comparison.warnings == [
        "cam-sweep: cam.epochs=1 has no scores, because it failed: ValueError: no",
        "cam-sweep: cam.epochs=2 has no scores, because it was stopped early",
    ]


def test_trials_are_ordered_by_a_score_that_all_of_them_have(found: tuple[Findings, Path]) -> None:
    """A trial of a sweep up to the seeds also has later scores if a launch has finished its run."""
    runs, record = Runs(found[1] / "store"), found[0].record
    for trial in record["trials"][1:]:
        for results in runs.group(trial["group"]).runs:
            results["rows"][:] = [row for row in results["rows"] if row["quantity"] == "seed"]
    assert len(findings(runs, record).trials) == 3 and findings(runs, record).metric == "seed.miou/train"


def test_the_best_threshold_is_that_of_the_mean_curve(found: tuple[Findings, Path]) -> None:
    trial = found[0].trials[0]
    means = {point[1]: value for point, value in mean_curves(found[0]).items() if point[0] == trial.values["cam.epochs"]}
    assert trial.cut is not None
    best = best_threshold(trial.cut)
    assert best is not None and best[1] == pytest.approx(max(means.values()))
    assert best[0] == max(means, key=lambda threshold: means[threshold])


def test_table_and_page_show_every_trial(found: tuple[Findings, Path], tmp_path: Path) -> None:
    for trial, row in zip(found[0].trials, sweep_rows(found[0]), strict=True):
        cells = [
            told_spread(trial.score(name), Metric(title="")) for name in ("seed.miou/train", "pseudo.miou/train", "seg.miou/val")
        ]
        threshold, value = (trial.cut and best_threshold(trial.cut)) or (0, 0)
        assert row == [str(trial.values["cam.epochs"]), *cells, f"{100 * value:.1f} at {threshold:.2f}"]
    assert sweep_columns(found[0])[1:4] == ["seed mIoU, train", "pseudo mIoU, train", "seg mIoU, val"]
    assert [value for value, _ in slices(found[0])["cam.epochs"]] == [1, 2, 3]
    write_page(found[0], tmp_path / "new" / "sweep.html")
    page = (tmp_path / "new" / "sweep.html").read_text()
    assert page.count("<svg") == 2 and "random seed 1 failed" in page
    assert all(f"<li>{sentence}</li>" in html.unescape(page) for sentence in found[0].verdict())
    assert all(html.escape(cell) in page for row in sweep_rows(found[0]) for cell in row)


def test_a_sensitivity_goes_from_the_lowest_value_to_the_highest(found: tuple[Findings, Path]) -> None:
    trials = [replace(found[0].trials[0], values={"isl.weight": value}) for value in (0, 0.6, 1, 0.2, "auto")]
    of_weight = replace(found[0], record={**found[0].record, "axes": [{"name": "isl.weight"}]}, trials=trials)
    assert [value for value, _ in slices(of_weight)["isl.weight"]] == [0, 0.2, 0.6, 1, "auto"]


def test_a_score_that_orders_the_trials_has_a_column(found: tuple[Findings, Path]) -> None:
    by_f = findings(Runs(found[1] / "store"), found[0].record, "seg.f/val")
    means = [trial.score("seg.f/val").mean for trial in by_f.trials]  # type: ignore[union-attr]
    assert means == sorted(means, reverse=True) and len(set(means)) > 1
    place = sweep_columns(by_f).index("seg.f/val")
    assert [row[place].split(" ")[0] for row in sweep_rows(by_f)] == [f"{100 * mean:.1f}" for mean in means]
    assert sweep_columns(found[0]) == [name for name in sweep_columns(by_f) if name != "seg.f/val"]


def sweep_words(tmp_path: Path, *options: str, method: str, until: str) -> tuple[list[str], Path]:
    """The command of a real sweep over a tiny image set, with default tracking, and its store."""
    images, store = write_image_set(tmp_path / "images"), tmp_path / "store"
    words = [word for word in command(images, store, *options, method=method) if word not in ("--track", "none")]
    words[1] = "sweep"
    return [*words, "--until", until], store


def the_sweep(store: Path) -> dict[str, Any]:
    """The record of the one sweep in a store."""
    (folder,) = (store / "sweeps").iterdir()
    record = read_sweep(store, folder.name)
    assert record is not None
    return record


@pytest.mark.slow
def test_a_real_sweep_shares_stages_between_trials_and_resumes(tmp_path: Path) -> None:
    vary = ["--vary", "recam.weights=w,sum", "--vary", "seed.threshold=0.1:0.6:0.1"]
    words, store = sweep_words(tmp_path, *vary, method="recam+none", until="recam-maps-score")
    first = subprocess.run(words, capture_output=True, text=True, timeout=600)
    assert first.returncode == 0, first.stdout + first.stderr
    assert "note: 6 images are few: --engine local" in first.stdout
    assert first.stdout.count("recam-responses [weights") - first.stdout.count("cached") <= 2  # begins and ends once
    assert [trial["values"] for trial in the_sweep(store)["trials"]] == [{"recam.weights": "w"}, {"recam.weights": "sum"}]
    made = {path: path.read_text() for path in (store / "stages").glob("*/manifest.json")}
    assert len([path for path in made if json.loads(made[path])["stage"] == "recam-responses"]) == 1
    again = subprocess.run(words, capture_output=True, text=True, timeout=600)
    assert again.returncode == 0 and "done in" not in again.stdout
    assert made == {path: path.read_text() for path in (store / "stages").glob("*/manifest.json")}


@pytest.mark.slow
def test_random_draws_are_those_of_the_random_seed_and_every_run_is_tracked(tmp_path: Path) -> None:
    vary = ["--vary", "lpcam.threshold=loguniform(0.05,0.5)", "--trials", "2", "--engine", "local"]
    words, store = sweep_words(tmp_path, *vary, method="lpcam+none", until="lpcam-maps-score")
    first = subprocess.run(words, capture_output=True, text=True, timeout=600)
    assert first.returncode == 0, first.stdout + first.stderr
    assert "are few" not in first.stdout and not (store / "ray").exists()
    record = the_sweep(store)
    drawn = [trial["values"]["lpcam.threshold"] for trial in record["trials"]]
    assert len(set(drawn)) == 2 and all(0.05 <= value <= 0.5 for value in drawn)
    again = subprocess.run(words, capture_output=True, text=True, timeout=600)
    assert again.returncode == 0 and "done in" not in again.stdout and the_sweep(store) == record
    delivered = subprocess.run([words[0], "track", "--store", str(store)], capture_output=True, text=True, timeout=120)
    assert delivered.stdout.splitlines()[-1] == "0 delivered, 2 already there"


@pytest.mark.slow
def test_optuna_stops_trials_early_and_the_same_command_goes_on(tmp_path: Path) -> None:
    vary = ["--vary", "cam.lr=loguniform(0.00001,0.01)", "--search", "optuna", "--trials", "4", "--by", "seed.miou/train"]
    how = ["--stop-early", "loss", "--at-once", "1", "--set", "cam.epochs=90"]
    words, store = sweep_words(tmp_path, *vary, *how, method="cam+none", until="cam-maps-score")
    first = subprocess.run(words, capture_output=True, text=True, timeout=900)
    assert first.returncode == 0, first.stdout + first.stderr
    trials = the_sweep(store)["trials"]
    assert [trial["number"] for trial in trials] == [0, 1, 2, 3] and not trials[0]["stopped"]
    stopped = [trial for trial in trials if trial["stopped"]]
    assert stopped and all("loss of cam-network" in trial["stopped"] for trial in stopped)
    assert first.stdout.count("stopped early") >= len(stopped) and "failed" not in first.stdout
    left = [path.parent for path in (store / "stages").glob("cam-network-*/checkpoint.pt")]
    assert len(left) == len(stopped) and not any((folder / "manifest.json").exists() for folder in left)
    again = subprocess.run(words, capture_output=True, text=True, timeout=600)
    assert again.returncode == 0 and "done in" not in again.stdout and the_sweep(store)["trials"] == trials
