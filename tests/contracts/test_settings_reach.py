"""A stage reads every setting that it receives: one that it does not read would change its key and nothing else."""

from collections.abc import Iterable, Mapping
from typing import Any

import pytest

from orchestrator.engine import context as contexts
from orchestrator.engine.job import Job
from orchestrator.engine.shard_work import add
from orchestrator.engine.training_work import prepared
from orchestrator.planning.recipes import load_all
from orchestrator.planning.references import resolve
from orchestrator.planning.settings import NO_FILE, declared
from tests.contracts.cases import Case, every, scores
from tests.contracts.images import SIZES
from tests.contracts.laboratory import Laboratory, Made
from training.stage import Settings

BY_THE_FRAME = ("training.", "extraction.")  # the loop and the engine read these groups
# settings that are read only if initial weights are given, which tiny runs have not
WITH_WEIGHTS = {"frozen", "network.frozen"}


class Watched(Settings):
    """Settings that note the full names of what is read."""

    def __init__(self, values: Mapping[str, Any], read: set[str], prefix: str = "") -> None:
        super().__init__(values)
        object.__setattr__(self, "noted", (read, prefix))

    def __getattr__(self, name: str) -> Any:
        read, prefix = object.__getattribute__(self, "noted")
        found = super().__getattr__(name)
        read.add(prefix + name)
        return Watched(found.values, read, f"{prefix}{name}.") if isinstance(found, Settings) else found


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The settings that stages read from now on."""
    found: set[str] = set()
    original = contexts.settings_of
    monkeypatch.setattr(contexts, "settings_of", lambda values: Watched(original(values).values, found))
    return found


def unread(case: Case, made: Made, read: Iterable[str]) -> set[str]:
    """The settings that the stage of a case receives and has not read."""
    table = declared(load_all()["folder"])
    owned = {name: full for name, full in case.stage.owned.items() if full and not name.startswith(BY_THE_FRAME)}
    received = {name for name, full in owned.items() if table[full].keyed}
    without_weights = any(made.job.settings.get(name) in NO_FILE for name in ("weights", "network.weights", "backbone.weights"))
    return received - set(read) - (WITH_WEIGHTS if without_weights else set())


def totals(job: Job, one: Any) -> dict[str, Any]:
    """The sum of the records of all items, without the arrays that are kept for each item."""
    total: dict[str, Any] = {}
    for part in job.parts():
        add(total, {name: array for name, array in one(part).items() if name not in job.recipe.keeps})
    return total


@pytest.mark.parametrize("case", every("map"), ids=lambda case: case.name)
def test_a_per_image_stage_reads_all_its_settings(laboratory: Laboratory, case: Case, read: set[str]) -> None:
    made = laboratory.made(case)
    read.clear()  # by this stage and those that it is made from
    one = made.one()
    for part in made.job.parts()[: len(SIZES)]:  # the others are of the same sizes and labels
        one(part)
    assert not unread(case, made, read)


@pytest.mark.parametrize("case", every("train"), ids=lambda case: case.name)
def test_a_training_reads_all_its_settings(laboratory: Laboratory, case: Case, read: set[str]) -> None:
    made = laboratory.made(case)
    read.clear()
    training = prepared(made.job, "cpu")
    if training.finish is not None:
        training.finish()
    assert not unread(case, made, read)


@pytest.mark.parametrize("case", scores(), ids=lambda case: f"{case.name} {case.stage.purpose}")
def test_a_score_reads_all_its_settings(laboratory: Laboratory, case: Case, read: set[str]) -> None:
    made = laboratory.made(case)
    read.clear()
    settings = contexts.settings_of(made.job.settings)
    resolve(made.job.recipe.result)(settings, made.job.classes, totals(made.job, made.one()))
    assert not unread(case, made, read)
