"""What a stage's function receives, and what a training stage's function returns.

A stage is one cached step of a run. Its function gets a `Context` and nothing else. It has one of three forms:

* map:   `function(context) -> one`, where `one(item) -> {name: array}` does one image (or `one(class_index)` one class);
         a `PerImage` is such a `one` in three steps, which a pipeline overlaps to keep a GPU busy;
* train: `function(context) -> Training`, which the one loop in `training.loop` runs;
* copy:  `function(context) -> network` with weights from a file; `context.inputs` holds the untrained network.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from imagesets.item import Item
from imagesets.views import Loaded
from training.examples import Example, shuffled
from training.randomness import generator


@dataclass(frozen=True)
class Settings:
    """The frozen settings that one stage receives, as attributes; a group is an attribute too (`settings.backbone.weights`).

    A name that the stage's recipe does not list raises AttributeError, so no other setting can reach the stage.
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


Records = Mapping[str, dict[str, np.ndarray]]  # the records of a map stage: image id (or class name) -> named arrays


@dataclass(frozen=True)
class Context:
    """Everything a stage's function may depend on.

    `items` are the images of the stage's list; a per-image stage gets none, because its records may count for other lists.
    `purpose` names the stage's random numbers: the random seed and the stage.
    `inputs` holds, for each word the stage reads, `Records` of a map stage (for `maps`, a `Maps` by image id) or, for
    `network`, `affinity` and `segmenter`, the trained module on `device` in evaluation mode.
    """

    settings: Settings
    classes: tuple[str, ...]
    items: Sequence[Item]
    purpose: tuple[object, ...]
    device: torch.device
    inputs: Mapping[str, Any] = field(default_factory=dict)

    def generator(self, *what: object) -> np.random.Generator:
        """A generator of random numbers for one purpose `what` in this stage."""
        return generator(*self.purpose, *what)


Record = dict[str, np.ndarray]
# (image, its pixels uint8 [H,W,3], what was computed for it) -> record
Finish = Callable[[Item, np.ndarray, Sequence[np.ndarray]], Record]


@dataclass(frozen=True)
class PerImage:
    """`one(item)` of a per-image stage in three steps. As a pipeline on a GPU, it does them for several images at a time.

    `load(item)` reads and rescales the image on the CPU, in any thread (`imagesets.views.load`).
    `compute(batch)` computes on the device for images of equal sizes, and returns the tensors of each image.
    `finish(item, rgb, arrays)` makes the record from the image and those tensors as arrays, on the CPU, in any thread. With
    `processes` it may run in any process, which is for work that holds Python's lock; `finish` must then be picklable.
    """

    load: Callable[[Item], Loaded]
    compute: Callable[[Sequence[Loaded]], Sequence[Sequence[torch.Tensor]]]
    finish: Finish
    processes: bool = False

    def __call__(self, item: Item) -> Record:
        loaded = self.load(item)
        (tensors,) = self.compute([loaded])
        return self.finish(loaded.item, loaded.rgb, [tensor.cpu().numpy() for tensor in tensors])


Losses = dict[str, torch.Tensor]
Outputs = dict[str, torch.Tensor]


@dataclass
class Training:
    """One training, for `training.loop` to run. Torch's generator is seeded before the function that returns it is called.

    `network` is the result of the stage; it is a part of `objective`, or `objective` itself.
    `objective(batch, step)` returns NAMED losses, scalars whose sum is minimised, and named outputs, which add-ons read. A step
    may have other losses than the step before, and its losses may reach other parameters. The objective holds all state of the
    training: its parameters and buffers are checkpointed. `step` counts from 0.
    `sample(example, rng)` makes the tensors of one example, which torch's default collation stacks. It must be picklable,
    because it is sent to the processes that load images. An image is what `imagesets.crops.Crop.image` makes; the objective gets
    it normalised (`training.transfer`).
    `optimiser` holds the groups with their base rates, and `schedule(step)` multiplies the rates.
    `batch` counts examples over all workers. Each worker computes its share in `accumulate` parts and adds up their gradients.
    This needs less memory. The update is the same if every loss is a plain mean over examples and no layer looks at the batch
    (a live batch norm does).
    `examples(items, rng)` returns the examples of one epoch in order; by default each item once. An incomplete last batch
    is dropped.
    `after_step(step)` runs in every worker after each update, `finish()` once after the last update.
    """

    network: nn.Module
    objective: nn.Module
    sample: Callable[[Example, np.random.Generator], dict[str, torch.Tensor]]
    optimiser: torch.optim.Optimizer
    schedule: Callable[[int], float]
    batch: int
    steps: int
    examples: Callable[[Sequence[Item], np.random.Generator], Sequence[Example]] = shuffled
    accumulate: int = 1
    after_step: Callable[[int], None] | None = None
    finish: Callable[[], None] | None = None
