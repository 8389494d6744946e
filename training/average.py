"""The exponential moving average of a network's weights."""

from copy import deepcopy
from math import exp

import torch
from torch import nn


class Average:
    """The average of the weights and buffers of `network`, which starts with their values; no average if `decay` is 0.

    After each step it becomes decay * average + (1 - decay) * weights. Counters are copied.
    """

    def __init__(self, network: nn.Module, decay: float):
        self.network, self.decay = network, decay
        self.weights = {name: values.clone() for name, values in network.state_dict().items()} if decay else {}

    def update(self) -> None:
        """Add the network's present weights to the average."""
        if not self.weights:
            return
        for name, values in self.network.state_dict().items():
            own = self.weights[name]
            if own.is_floating_point():
                own.lerp_(values, 1 - self.decay)
            else:
                own.copy_(values)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The average, for a checkpoint."""
        return self.weights

    def load_state_dict(self, state_dict: dict[str, torch.Tensor]) -> None:
        """Go on from a checkpoint."""
        self.weights = state_dict

    def deliver(self) -> None:
        """Set the network's weights to the average."""
        if self.weights:
            self.network.load_state_dict(self.weights)


def ramped(update: int, decay: float, ramp: float) -> float:
    """The decay of an average at its `update`, counted from 1, which grows to `decay` over about `ramp` updates (RSEPM code)."""
    return decay * (1 - exp(-update / ramp)) if ramp else decay


class AveragedCopy(nn.Module):
    """A copy of a network, as a part of an objective, whose weights and buffers follow the average of the network's.

    The first updates count more: the decay is `ramped`. Counters are copied.
    """

    def __init__(self, network: nn.Module, decay: float, ramp: float = 0.0) -> None:
        super().__init__()
        self.network, self.decay, self.ramp = deepcopy(network).requires_grad_(False), decay, ramp

    @torch.no_grad()
    def update(self, network: nn.Module, update: int) -> None:
        """Add the present weights of `network`; `update` counts from 1."""
        decay, state = ramped(update, self.decay, self.ramp), network.state_dict()
        for name, own in self.network.state_dict().items():
            if own.is_floating_point():
                own.mul_(decay).add_(state[name], alpha=1 - decay)
            else:
                own.copy_(state[name])

    def deliver(self, network: nn.Module) -> None:
        """Set the weights of `network` to the average."""
        network.load_state_dict(self.network.state_dict())
