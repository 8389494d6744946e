"""What a sweep refuses before its first stage, and what it says of chance and of a new store."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from imagesets.errors import WrongInput
from orchestrator.planning import refusals
from orchestrator.planning.experiment import Request
from orchestrator.sweeps.axes import split
from orchestrator.sweeps.sweep import Sweep
from tests.conftest import Command
from tests.planned_run import PLAIN


def sweep_of(image_set: Path, *vary: str, **how: Any) -> Sweep:
    request = Request(
        "cam+irn", f"folder:{image_set}", "deeplabv2-small", "", PLAIN, store=image_set.parent / "store", cluster=True, room=4
    )
    return Sweep(request, *split(vary), [0], **how)


def test_a_sweep_refuses_what_would_stop_some_trial_and_shares_what_trials_share(image_set: Path) -> None:
    sweep = sweep_of(image_set, "deeplabv2.batch=4,6")
    counts = {sweep.experiment(values).settings["training.workers"] for values in sweep.probed}
    assert counts == {2}  # a trial with four would train CAM anew
    with pytest.raises(WrongInput, match=r"deeplabv2\.batch=9 is larger than the training list train, which has 6 images"):
        sweep_of(image_set, "deeplabv2.batch=4,9").refuse({"train": 6})


def test_a_sweep_refuses_values_that_only_together_cannot_run(image_set: Path) -> None:
    with pytest.raises(WrongInput, match=r"cam\.batch=6 does not divide among training\.workers=4"):
        sweep_of(image_set, "cam.batch=4,6", "training.workers=1,4").refuse({"train": 6})


def test_a_sweep_refuses_what_this_machine_does_not_have(image_set: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "gpus", lambda: 0)
    sweep = sweep_of(image_set, "training.precision=float32,float16")
    sweep.refuse({"train": 6})  # on a cluster, which may have it
    here = replace(sweep, request=replace(sweep.request, cluster=False))
    with pytest.raises(WrongInput, match=r"training\.precision=float16 needs a GPU, and this machine has none"):
        here.refuse({"train": 6})


def test_a_sweep_of_what_no_trial_reads_is_refused(image_set: Path) -> None:
    with pytest.raises(WrongInput, match=r"nothing in cam\+irn reads recam\.lambda"):
        sweep_of(image_set, "recam.lambda=1,2").check()
    with pytest.raises(WrongInput, match=r"nothing in cam\+irn up to cam-maps-score reads irn\.beta"):
        sweep_of(image_set, "irn.beta=1,2", until="cam-maps-score").check()
    with pytest.raises(WrongInput, match=r"nothing in cam\+irn up to irn-masks-score is scored over thresholds"):
        sweep_of(image_set, "seed.threshold=0.1:0.5:0.1", until="irn-masks-score").check()
    sweep_of(image_set, "irn.beta=1,2", "seed.threshold=0.1:0.5:0.1").check()


def test_a_setting_that_is_given_and_varied_is_refused(image_set: Path) -> None:
    with pytest.raises(WrongInput, match=r"--vary and --set both give cam\.batch"):
        sweep_of(image_set, "cam.batch=2,4").check()


def test_a_sweep_refuses_the_weights_of_any_trial_before_the_first_stage(
    image_set: Path, tmp_path: Path, command: Command
) -> None:
    import torch

    torch.save({"weight": torch.zeros(1)}, tmp_path / "other.pth")
    words = ("--method", "cam+none", "--images", f"folder:{image_set}", "--segmenter", "deeplabv2-small", "--track", "none")
    given = ("irn.batch=4", "deeplabv2.batch=4", "backbone.name=small", "training.workers=1")
    assigned = [word for text in given for word in ("--set", text)]
    vary = ("--vary", f"backbone.weights=none,{tmp_path / 'other.pth'}", "--vary", "cam.batch=4,64")
    code, _, errors = command("sweep", *words, *assigned, *vary, "--store", tmp_path / "store")
    assert code == 2 and "do not fit backbone small" in errors and "cam.batch=64 is larger" in errors
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("vary", "told"),
    [
        (("recurseed.losses=[cls],[seg]", "recurseed.epochs=1,2"), "recurseed.losses=['seg'] lacks cls"),
        (("recurseed.epochs=6,5",), "recurseed.seg_begin=5 must be below recurseed.epochs=5"),
    ],
)
def test_a_sweep_refuses_what_a_stage_of_any_trial_finds_wrong_with_its_settings(
    image_set: Path, tmp_path: Path, command: Command, vary: tuple[str, ...], told: str
) -> None:
    words = ("--method", "recurseed", "--images", f"folder:{image_set}", "--segmenter", "own", "--track", "none")
    given = ("backbone.weights=none", "recurseed.batch=4", "training.workers=1")
    assigned = [word for text in given for word in ("--set", text)]
    varied = [word for text in vary for word in ("--vary", text)]
    code, _, errors = command("sweep", *words, *assigned, *varied, "--store", tmp_path / "store", "--engine", "local")
    assert code == 2 and told in errors and not (tmp_path / "store" / "stages").exists()


def test_a_sweep_that_would_score_nothing_is_refused_before_the_first_stage(
    image_set: Path, tmp_path: Path, command: Command
) -> None:
    words = ("--method", "cam+none", "--images", f"folder:{image_set}", "--segmenter", "deeplabv2-small", "--track", "none")
    assigned = [word for text in (*PLAIN, "training.workers=1") for word in ("--set", text)]
    vary = ("--vary", "cam.epochs=1,2", "--until", "cam-network")
    code, _, errors = command("sweep", *words, *assigned, *vary, "--store", tmp_path / "store")
    assert code == 2 and "no stage of this sweep is scored" in errors and not (tmp_path / "store").exists()


def test_a_sweep_tells_that_its_store_is_new(
    image_set: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.sweeps.trials.Trials.run", lambda trials: None)
    words = ("--method", "cam+none", "--images", f"folder:{image_set}", "--segmenter", "deeplabv2-small", "--track", "none")
    assigned = [word for text in (*PLAIN, "training.workers=1") for word in ("--set", text)]
    where = ("--vary", "cam.epochs=1,2", "--engine", "local", "--store", tmp_path / "store")
    told = [f"a new store: {tmp_path / 'store'}" in command("sweep", *words, *assigned, *where)[1] for _ in range(2)]
    assert told == [True, False]


def test_a_private_ray_has_room_for_the_trial_with_the_most_workers(
    image_set: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tell(console: object, planner: object, workers: int, *rest: object) -> None:
        raise WrongInput(f"the engine is made for {workers} workers")

    monkeypatch.setattr("orchestrator.cli.sweep.Execution", tell)
    words = ("--method", "cam+none", "--images", f"folder:{image_set}", "--segmenter", "deeplabv2-small", "--track", "none")
    assigned = [word for text in PLAIN for word in ("--set", text)]
    vary = ("--vary", "training.workers=1,4", "--store", tmp_path / "store")
    assert "made for 4 workers" in command("sweep", *words, *assigned, *vary)[2]


def test_what_depends_on_the_speed_of_trials_is_told(image_set: Path) -> None:
    drawn = {"search": "optuna", "trials": 9, "by": "seg.miou/val"}
    (told,) = sweep_of(image_set, "irn.beta=1,2", stop_early="loss", **drawn).by_chance(4)
    assert "--at-once 4, which trials are stopped and what optuna tries depends on which trial is faster" in told
    assert "optuna" not in sweep_of(image_set, "irn.beta=1,2", stop_early="loss").by_chance(2)[0]
    assert sweep_of(image_set, "irn.beta=1,2", stop_early="loss", **drawn).by_chance(1) == []
    assert sweep_of(image_set, "irn.beta=1,2", **drawn).by_chance(4) == []  # it waits for the trials before
