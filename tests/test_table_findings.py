"""Ours beside the published values: what the store has, what is missing, and the same in every format."""

import csv
import io
import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from rich.console import Console

from imagesets.errors import WrongInput
from orchestrator.engine.progress import Display
from orchestrator.engine.stage_runner import Runner
from orchestrator.pages.table_page import plot_file, write_page
from orchestrator.planning.experiment import Experiment
from orchestrator.planning.prepared import open_images_of, planner
from orchestrator.reading.results import results
from orchestrator.tables import cells
from orchestrator.tables.asked import Asked
from orchestrator.tables.columns import Column
from orchestrator.tables.findings import Findings, findings
from orchestrator.tables.formats import comma_separated, latex, markdown, terminal_table, write
from orchestrator.tables.planned import PlannedRow, experiments, plan_rows, runs_of
from orchestrator.tables.table_recipe import OURS, Row, Table
from tests.finished_run import PretendEngine
from tests.test_tables import write_voc

SEED, PSEUDO, IOU, TEST = "seed.miou/train", "pseudo.miou/train", "seed.iou/train", "seg.miou/test"
VALUES = (48.8, 54.9, 52.1, 49.5)
ROWS = (
    Row(
        label="CAM",
        expression="cam+none",
        runs=2,
        values={SEED: VALUES[0], PSEUDO: {"mean": 66.3, "std": 0.4}, IOU: [80.0, 40.0]},
    ),
    Row(label="LPCAM", expression="lpcam+none", runs=2, values={SEED: VALUES[1], PSEUDO: None}, diverged=True),
    Row(label="CAM, 2 epochs", expression="cam+none", settings={"cam.epochs": 2}, values={SEED: VALUES[2]}, note="a | b_c"),
    Row(label="CAM, 3 epochs", expression="cam+none", settings={"cam.epochs": 3}, values={SEED: VALUES[3]}),
    Row(label="CAM, in its own paper", expression="cam+none", runs=2, reported=True, values={SEED: 10.0}),
    Row(label="left out", expression="cam+crf", values={SEED: 1.0}),
    Row(label="cannot be", expression="mctformer+advcam", values={SEED: 2.0}),
    Row(label="elsewhere", values={SEED: 3.0}),
)
TABLE = Table(
    id="tiny-1",
    paper=OURS,
    table="Table 9",
    caption="of a test",
    images="voc12",
    runs=5,
    rows=ROWS,
    note="The paper's note.",
    columns=(SEED, PSEUDO, IOU, "seed.pixels.tp/train", "seed.by_labels.one.miou/train", "cost.cpu"),
    classes=("background", "aeroplane"),
)
GIVEN = ("backbone.weights=none", "backbone.name=small", "cam.batch=4", "images.training=train")
RUN = {"voc12": ("cam*none", "lpcam", "cannot be"), "folder": ("cam",)}
Made = Callable[[str], tuple[Findings, list[PlannedRow]]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The tiny table on VOC, or on a folder with the same images: findings and rows. The second run of LPCAM has failed."""
    root = tmp_path_factory.mktemp("findings")
    images = write_voc(root, train=4)

    @cache
    def make(kind: str) -> tuple[Findings, list[PlannedRow]]:
        asked = Asked(TABLE, f"{kind}:{images}", root / kind, assignments=GIVEN, patterns=RUN[kind])
        wanted = experiments(asked)
        one = next(one for one in wanted.values() if isinstance(one, Experiment))
        found = open_images_of(one, make=False)
        assert found is not None
        shared = planner(one, found)
        planned = plan_rows(asked, wanted, shared)
        shared.store.open()
        runner = Runner(PretendEngine(found), shared, Display(Console(file=io.StringIO())))
        failures = {}
        for name, run in runs_of(asked, planned).items():
            if name.startswith("lpcam") and name.endswith("-1"):
                failures[name] = "RuntimeError: no"
            for step in () if name in failures else run.steps:
                shared.look(step)
                if not step.cached:
                    runner.run(step)
        return findings(asked, planned, failures), planned

    return make


def line(found: Findings, label: str) -> Any:
    """The line of a row."""
    return next(line for line in found.lines if line.row.label == label)


def test_ours_are_the_scores_of_the_runs(made: Made) -> None:
    found, planned = made("voc12")
    runs = [results(run)["rows"] for run in planned[0].runs]
    for name, place in ((SEED, 0), (PSEUDO, 1)):
        assert line(found, "CAM").ours(Column(name)).by_seed == {
            seed: rows[place]["metrics"]["miou"] for seed, rows in enumerate(runs)
        }
    errors = runs[0][0]["errors"]
    share = errors["tp"] / (errors["tp"] + errors["fn"] + errors["fp_background"])
    assert line(found, "CAM").ours(Column("seed.pixels.tp/train")).by_seed[0] == pytest.approx(share)
    one = line(found, "CAM").ours(Column("seed.by_labels.one.miou/train")).by_seed[0]
    assert one == runs[0][0]["by_labels"]["one"]["miou"]
    minutes = sum(stage["cpu"] for stage in results(planned[0].runs[0])["stages"]) / 60
    assert line(found, "CAM").ours(Column("cost.cpu")).by_seed[0] == pytest.approx(minutes)


def test_a_difference_is_ours_minus_the_published_value(made: Made) -> None:
    found, _ = made("voc12")
    cam, column = line(found, "CAM"), Column(PSEUDO)
    assert found.difference(cam, column) == pytest.approx(100 * cam.ours(column).mean - 66.3)
    assert column.told_published(found.published(cam, column)) == "66.3 ± 0.4"
    assert found.difference(line(found, "CAM, 2 epochs"), column) is None  # the paper has no value


def test_what_has_no_value_says_why(made: Made) -> None:
    found, _ = made("voc12")
    told = {one.row.label: one.told(Column(SEED)) for one in found.lines}
    assert (told["left out"], told["cannot be"], told["elsewhere"]) == ("not run", "refused", "quoted")
    assert line(found, "CAM").told(Column(TEST)) == "server only" and line(found, "elsewhere").told(Column(TEST)) == "quoted"
    (why,) = line(found, "cannot be").notes
    assert why.startswith("refused: advcam needs class-weights, which the network of mctformer does not provide")
    lpcam = line(found, "LPCAM")
    assert lpcam.notes == ["random seed 1 failed: RuntimeError: no"] and lpcam.ours(Column(SEED)).n == 1
    assert Column(PSEUDO).told_published(found.published(lpcam, Column(PSEUDO))) == "diverged"


def test_a_row_whose_every_run_failed_is_marked(made: Made) -> None:
    found, planned = made("voc12")
    left = planned[5]
    again = findings(found.asked, [left], dict.fromkeys(left.names, "RuntimeError: no"))
    assert again.lines[0].state == "failed" and "random seed 0 failed: RuntimeError: no" in again.lines[0].notes


def test_the_rank_correlation_counts_equal_runs_once(made: Made) -> None:
    found, _ = made("voc12")
    ours = [line(found, label).ours(Column(SEED)).mean for label in ("CAM", "LPCAM", "CAM, 2 epochs", "CAM, 3 epochs")]
    value, count = found.correlations()[Column(SEED)]
    ranks = [sorted(values).index(value) for values in (ours, VALUES) for value in values]
    apart = sum((one - other) ** 2 for one, other in zip(ranks[:4], ranks[4:], strict=True))
    assert count == 4 and value == pytest.approx(1 - 6 * apart / (4 * (4**2 - 1)))
    (told,) = [told for told in cells.sentences(found) if "rank correlation" in told]
    assert told.startswith("seed mIoU, train: rank correlation of ours with the published values ") and told.endswith("4 rows).")


def test_on_another_image_set_published_values_are_grey_and_say_so(made: Made) -> None:
    found, _ = made("folder")
    assert all(found.difference(one, column) is None for one in found.lines for column in found.columns)
    head = [cell.text for cell in cells.heads(found)]
    assert "published, VOC" in head and "difference" not in head
    file = io.StringIO()
    Console(file=file, width=300, force_terminal=True, color_system="standard").print(terminal_table(found, 300))
    (row,) = [row for row in file.getvalue().splitlines() if "CAM, in its own paper" in row]
    assert re.search(r"\x1b\[2m *10\.0\x1b\[0m", row)  # dim
    assert "| *48.8* |" in markdown(found)
    assert cells.sentences(found)[0].startswith("The published values are of PASCAL VOC 2012 and ours of VOC2012, so no")


def test_a_file_of_another_ending_is_refused(made: Made, tmp_path: Path) -> None:
    with pytest.raises(WrongInput, match=r"table\.txt must end in one of \.md, \.tex, \.csv, \.html"):
        write(made("voc12")[0], tmp_path / "table.txt")


def test_a_narrow_terminal_has_a_line_for_each_score(made: Made) -> None:
    found, _ = made("voc12")
    file = io.StringIO()
    Console(file=file, width=80).print(terminal_table(found, 80))
    rows = file.getvalue().splitlines()
    assert max(map(len, rows)) <= 80 and sum("pseudo mIoU, train" in row for row in rows) == len(ROWS)
    (first,) = [row for row in rows if row.startswith(" CAM  ")]
    assert "48.8" in first and "seed mIoU, train" in first


def test_markdown_and_latex_have_the_table_and_its_notes(made: Made) -> None:
    found, _ = made("voc12")
    text = markdown(found)
    assert "**Table 9 (tiny-1): of a test**" in text and "The paper's note." in text and "means of 5 runs" in text
    table = [row for row in text.splitlines() if row.startswith("| ")]
    assert len({row.count("|") for row in table[: len(ROWS) + 1]}) == 1
    assert "seed IoU, train" in text and "| aeroplane |" in text
    tex = latex(found)
    assert r"66.3 $\pm$ 0.4" in tex and tex.count(r"\begin{tabular}") == 2
    assert all(row.startswith("%") for row in tex.splitlines() if "a | b_c" in row)


def test_csv_is_at_full_precision_with_fractions(made: Made) -> None:
    found, _ = made("voc12")
    rows = list(csv.DictReader(io.StringIO(comma_separated(found))))
    (cam,) = [row for row in rows if row["row"] == "CAM" and row["score"] == SEED]
    assert cam["unit"] == "fraction"
    assert (cam["published"], cam["published_on"], cam["n"]) == ("0.488", "voc12", "2")
    assert cam["launch"] == found.lines[0].names[0].rpartition("-")[0]  # what `compare` takes
    assert float(cam["mean"]) == line(found, "CAM").ours(Column(SEED)).mean
    assert float(cam["difference"]) == pytest.approx(float(cam["mean"]) - 0.488)
    (missing,) = [row for row in rows if row["row"] == "left out" and row["score"] == SEED]
    assert missing["state"] == "not run" and not missing["mean"]
    classes = {row["class"]: row for row in rows if row["row"] == "CAM" and row["score"] == IOU}
    assert classes["aeroplane"]["published"] == "0.4" and float(classes["aeroplane"]["mean"]) > 0


def test_the_page_has_the_table_and_the_images_of_every_row(made: Made, tmp_path: Path) -> None:
    for kind, grey in (("voc12", 0), ("folder", len(ROWS) * 5)):
        found, _ = made(kind)
        write_page(found, tmp_path / f"{kind}.html")
        text = (tmp_path / f"{kind}.html").read_text()
        assert text.count('<td class="number elsewhere">') == grey
        assert all(row.label in text for row in ROWS) and '"title": "train"' in text


def test_a_figure_is_drawn_with_the_published_points(made: Made, tmp_path: Path) -> None:
    found, planned = made("voc12")
    rows = tuple(Row(label=f"{at}", expression="cam+none", at=at, line="CAM", values={SEED: 50.0}) for at in range(4))
    table = structs.replace(TABLE, table="Figure 9", rows=rows, columns=(SEED,), axis="epochs", optimum={"cam.epochs": 3})
    drawn = [PlannedRow(row, old.runs, old.names) for row, old in zip(rows, planned, strict=False)]
    write_page(findings(replace(found.asked, table=table), drawn), tmp_path / "figure.html")
    text = (tmp_path / "figure.html").read_text()
    assert text.count("<svg") == 1 and ">epochs<" in text and ">published<" in text and ">CAM<" in text
    assert "optimum: cam.epochs=3." in text


def test_a_figure_without_an_axis_goes_from_column_to_column(made: Made) -> None:
    found, planned = made("voc12")
    columns = ("seed.by_labels.one.miou/train", "seed.by_labels.several.miou/train")
    table = structs.replace(TABLE, table="Figure 9", rows=ROWS[:1], columns=columns)
    text = plot_file(findings(replace(found.asked, table=table), planned[:1]), "svg").decode()
    assert ">with one<" in text and ">several<" in text and ">CAM<" in text
