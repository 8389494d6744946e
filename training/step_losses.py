"""The losses of a step stay on the device until somebody looks at them: reading makes this process wait for the device."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from statistics import fmean

import torch

from training.stage import Losses


class StepLosses(Mapping[str, float]):
    """The named losses of one step, each the mean over the parts of the batch that had it."""

    def __init__(self, parts: Sequence[Losses]) -> None:
        self.parts = parts

    @cached_property
    def means(self) -> dict[str, float]:
        """The losses, read when they are first looked at."""
        return read([self])[0]

    def __getitem__(self, name: str) -> float:
        return self.means[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.means)

    def __len__(self) -> int:
        return len(self.means)


def read(steps: Sequence[StepLosses]) -> list[dict[str, float]]:
    """The losses of several steps, with one copy from the device."""
    found = [loss for step in steps for part in step.parts for loss in part.values()]
    values = iter(torch.stack(found).tolist() if found else ())
    named = [[(name, next(values)) for part in step.parts for name in part] for step in steps]
    return [means(one) for one in named]


def means(values: Sequence[tuple[str, float]]) -> dict[str, float]:
    """The mean of the values of each name."""
    seen: dict[str, list[float]] = {}
    for name, value in values:
        seen.setdefault(name, []).append(value)
    return {name: fmean(found) for name, found in seen.items()}
