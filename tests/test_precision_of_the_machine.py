"""The precision `auto` follows the processor, and a plan names what it has become."""

from pathlib import Path

import pytest

from orchestrator.planning import precision
from tests.planned_run import planned

AUTO = ("training.precision=auto", "extraction.precision=auto")


@pytest.mark.parametrize(
    ("processor", "gpus", "room", "expected"),
    [
        ("flags : avx512_bf16", 0, 0, "bfloat16"),
        ("flags : avx2", 0, 0, "float32"),
        ("flags : avx512_bf16", 1, 0, "float32"),
        ("flags : avx512_bf16", 0, 4, "float32"),  # a cluster, whose nodes may have other processors
    ],
)
def test_it_is_bfloat16_where_this_machine_s_processor_computes_in_it(
    image_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processor: str, gpus: int, room: int, expected: str
) -> None:
    (tmp_path / "cpuinfo").write_text(processor)
    monkeypatch.setattr(precision, "PROCESSOR", tmp_path / "cpuinfo")
    monkeypatch.setattr(precision, "gpus", lambda: gpus)
    prepared = planned(image_set, *AUTO, room=room)
    assert {prepared.settings[name] for name in precision.PRECISIONS} == {expected}
    same = planned(image_set, *(f"{name}={expected}" for name in precision.PRECISIONS), room=room)
    assert [step.key for step in prepared.steps] == [step.key for step in same.steps]
