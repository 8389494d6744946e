"""Interleaved rounds of the forms of one stage, and how far their results are apart."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

Arrays = Sequence[torch.Tensor]
Form = Callable[[], tuple[Arrays, float]]  # one call of a stage: its results, and the CPU seconds that count
PUBLISHED, PRECISIONS = "published", ("float32", "bfloat16")  # names of forms


@dataclass(frozen=True)
class Stage:
    """A stage in several forms on equal inputs; a call of each does `images` images. The first form is the published one."""

    images: int
    forms: Mapping[str, Form]


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
    differences = {name: difference(found, first[PUBLISHED]) for name, found in first.items() if name != PUBLISHED}
    spent: dict[str, list[float]] = {name: [] for name in stage.forms}
    for _ in range(rounds):
        for name, form in stage.forms.items():
            spent[name].append(form()[1])
    return Row({name: min(seconds) / stage.images for name, seconds in spent.items()}, differences)


def difference(found: Arrays, expected: Arrays) -> float:
    """The largest difference of two results, relative to each array's largest magnitude; of labels, the share that differs."""
    return max(_difference(*pair) for pair in zip(found, expected, strict=True))


def _difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    if found.shape != expected.shape:
        raise ValueError(f"the results have different shapes, {tuple(found.shape)} and {tuple(expected.shape)}")
    if not expected.is_floating_point():
        return (found != expected).double().mean().item()
    return ((found - expected).abs().max() / expected.abs().max().clamp(min=1e-30)).item()
