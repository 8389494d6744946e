"""The training of most networks: epochs, batch, optimiser and momentum are settings."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from imagesets.item import Item
from training import optimisers
from training.examples import Example, shuffled
from training.stage import Context, Training


def over_epochs(
    context: Context,
    network: nn.Module,
    objective: nn.Module,
    sample: Callable[[Example, np.random.Generator], dict[str, torch.Tensor]],
    groups: list[dict[str, Any]],
    decay: Callable[[int], optimisers.Schedule] = optimisers.poly,
    examples: Callable[[Sequence[Item], np.random.Generator], Sequence[Example]] = shuffled,
) -> Training:
    """The training of a `network` as its settings say; `decay` makes the schedule from the number of steps."""
    settings = context.settings
    steps = optimisers.steps(len(context.items), settings.batch, settings.epochs)
    return Training(
        network=network,
        objective=objective,
        sample=sample,
        optimiser=optimisers.build(settings.optimiser, groups, settings.momentum),
        schedule=decay(steps),
        batch=settings.batch,
        steps=steps,
        examples=examples,
    )
