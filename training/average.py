"""The exponential moving average of a network's weights."""

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
