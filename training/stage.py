"""What a stage's function receives, and what a training stage's function returns.

A stage is one cached step of a run. Its function gets a `Context` and nothing else, and is of one of three forms:

* map:   `function(context) -> one`, where `one(item) -> {name: array}` does one image (or `one(class_index)` one class);
* train: `function(context) -> Task`, which the one loop in `training.loop` runs;
* copy:  `function(context) -> network`, which comes from a file; `context.inputs` holds it untrained.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from imagesets.item import Item


@dataclass(frozen=True)
class Settings:
    """The frozen settings that one stage receives: attribute access, groups by their name (`settings.backbone.weights`).

    A name that the stage's recipe does not list raises AttributeError: nothing else can reach the stage.
    """

    values: Mapping[str, Any]

    def __getattr__(self, name: str) -> Any:
        values = object.__getattribute__(self, "values")
        if name in values:
            return values[name]
        group = {key[len(name) + 1 :]: value for key, value in values.items() if key.startswith(name + ".")}
        if not group:
            raise AttributeError(f"this stage does not receive the setting {name!r}; its recipe lists {sorted(values)}")
        return Settings(group)

    def __reduce__(self) -> tuple:
        return Settings, (dict(self.values),)


Records = Mapping[str, dict[str, np.ndarray]]  # what a map stage stored: image id (or class name) -> named arrays


@dataclass(frozen=True)
class Context:
    """Everything a stage's function may depend on.

    `items` are the images of the stage's list. `inputs` holds, for each word the stage reads, `Records` of a map stage (for
    `maps`, a `Maps` by image id) or, for `network` and `segmenter`, the trained module on `device` in evaluation mode.
    """

    settings: Settings
    classes: tuple[str, ...]
    items: Sequence[Item]
    random_seed: int
    device: torch.device
    inputs: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Task:
    """One training: `step(batch, progress)` returns NAMED losses (scalars; their sum is minimised) and is what DDP wraps.

    `network` is what the stage delivers (a part of `step`, or `step` itself). `sample(item, rng)` makes one training
    example; examples are stacked by torch's default collation. `batch` counts over all workers. `optimiser` holds the
    groups with their base rates, which `schedule(progress)` multiplies; `progress` runs from 0 to (steps-1)/steps.
    """

    network: nn.Module
    step: nn.Module
    sample: Callable[[Item, np.random.Generator], dict[str, torch.Tensor]]
    optimiser: torch.optim.Optimizer
    schedule: Callable[[float], float]
    batch: int
    steps: int
    finish: Callable[[], None] | None = None
