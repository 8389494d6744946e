"""Interleaved rounds of the forms of one stage, and how far their results are apart."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from training.memory import kept_memory

Arrays = Sequence[torch.Tensor]
Form = Callable[[], tuple[Arrays, float]]  # one call of a stage: its results, and the CPU seconds that count
PUBLISHED, PRECISIONS = "published", ("float32", "bfloat16")  # names of forms


def largest(found: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest difference, relative to the largest magnitude; of labels, the share that differs."""
    if not expected.is_floating_point():
        return (found != expected).double().mean().item()
    return ((found - expected).abs().max() / expected.abs().max()).item()


def length(found: torch.Tensor, expected: torch.Tensor) -> float:
    """The length of the difference of two vectors, relative to the vector."""
    return ((found - expected).norm() / expected.norm()).item()


@dataclass(frozen=True)
class Stage:
    """A stage in several forms on equal inputs; a call of each does `images` images.

    `apart` measures how far the results of a form are from the published ones.
    """

    images: int
    forms: Mapping[str, Form]
    apart: Callable[[torch.Tensor, torch.Tensor], float] = largest


@dataclass(frozen=True)
class Row:
    """A line of the table: per form the CPU seconds an image, and the largest difference from the published results."""

    seconds: Mapping[str, float]
    differences: Mapping[str, float]


def timed(work: Callable[[], Sequence[torch.Tensor | np.ndarray]]) -> Form:
    """A form whose CPU seconds all count."""

    def form() -> tuple[Arrays, float]:
        started = time.process_time()
        arrays = work()
        seconds = time.process_time() - started
        return [torch.as_tensor(array) for array in arrays], seconds

    return form


def measure(stage: Stage, rounds: int) -> Row:
    """The least seconds of each form over `rounds` rounds, in which every form runs once; a round before them warms up."""
    first = {name: form()[0] for name, form in stage.forms.items()}
    differences = {
        name: max(stage.apart(*pair) for pair in zip(found, first[PUBLISHED], strict=True))
        for name, found in first.items()
        if name != PUBLISHED
    }
    spent: dict[str, list[float]] = {name: [] for name in stage.forms}
    for _ in range(rounds):
        for name, form in stage.forms.items():
            spent[name].append(form()[1] if name == PUBLISHED else _within_a_stage(form))
    return Row({name: min(seconds) / stage.images for name, seconds in spent.items()}, differences)


def _within_a_stage(form: Form) -> float:
    """The CPU seconds of one of our forms after another call of it, whose memory it finds as in a stage of many images."""
    with kept_memory():
        form()
        return form()[1]
