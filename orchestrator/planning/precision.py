"""The precision `auto`: what a setting of precision is where it follows this machine."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.planning.recipe import AUTO
from orchestrator.planning.workers import gpus

PRECISIONS = ("training.precision", "extraction.precision")
PROCESSOR = Path("/proc/cpuinfo")  # on Linux alone
INSTRUCTIONS = {"avx512_bf16", "amx_bf16", "bf16"}  # for products of bfloat16, as Linux names them: Intel and AMD, Intel, ARM


def by_machine(settings: Mapping[str, Any], cluster: bool) -> dict[str, str]:
    """The settings of precision that are `auto`, as they are here; float32 on a cluster, whose nodes may differ."""
    return {name: "float32" if cluster else of_this_machine() for name in PRECISIONS if settings[name] == AUTO}


def of_this_machine() -> str:
    """bfloat16 on a processor with instructions for it. float32 otherwise, and on a GPU, where its accuracy is not measured."""
    return "bfloat16" if processor_has_bfloat16() and not gpus() else "float32"


def processor_has_bfloat16() -> bool | None:
    """Whether this processor has instructions for products of bfloat16; None where the system does not tell."""
    words = set(PROCESSOR.read_text(encoding="utf-8").split()) if PROCESSOR.is_file() else set()
    return bool(words & INSTRUCTIONS) if words else None
