"""The precision `auto` follows the processor, and a plan names what it has become."""

from pathlib import Path

import pytest

from orchestrator.planning import precision
from orchestrator.planning.experiment import Experiment, Request
from orchestrator.sweeps.axes import split
from orchestrator.sweeps.sweep import Sweep
from orchestrator.tables.asked import Asked
from orchestrator.tables.catalogue import find_table
from orchestrator.tables.planned import experiments
from tests.planned_run import planned

AUTO = ("training.precision=auto", "extraction.precision=auto")


@pytest.mark.parametrize(
    ("processor", "gpus", "cluster", "expected"),
    [
        ("flags : avx512_bf16", 0, False, "bfloat16"),
        ("flags : avx2", 0, False, "float32"),
        ("flags : avx512_bf16", 1, False, "float32"),
        ("flags : avx512_bf16", 0, True, "float32"),  # a cluster, whose nodes may have other processors
    ],
)
def test_it_is_bfloat16_where_this_machine_s_processor_computes_in_it(
    image_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processor: str, gpus: int, cluster: bool, expected: str
) -> None:
    (tmp_path / "cpuinfo").write_text(processor)
    monkeypatch.setattr(precision, "PROCESSOR", tmp_path / "cpuinfo")
    monkeypatch.setattr(precision, "gpus", lambda: gpus)
    prepared = planned(image_set, *AUTO, cluster=cluster)
    assert {prepared.settings[name] for name in precision.PRECISIONS} == {expected}
    same = planned(image_set, *(f"{name}={expected}" for name in precision.PRECISIONS), cluster=cluster)
    assert [step.key for step in prepared.steps] == [step.key for step in same.steps]


def test_rows_of_tables_and_trials_of_sweeps_follow_it_like_a_launch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "of_this_machine", lambda: "bfloat16")
    table = Asked(find_table("recam-1", "shapes"), "shapes", tmp_path, recipe="laptop")
    rows = [row for row in experiments(table).values() if isinstance(row, Experiment)]
    sweep = Sweep(Request("cam+irn", recipe="laptop", store=tmp_path), *split(["cam.epochs=2,3"]), [0])
    for wanted in [*rows, *map(sweep.experiment, sweep.probed)]:
        assert {wanted.settings[name] for name in precision.PRECISIONS} == {"bfloat16"}
