"""Mixed precision: the heavy parts of networks may compute in bfloat16 or float16; everything around them is float32."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from imagesets.errors import WrongInput


class MixedPrecision(nn.Module):
    """A part of a network that computes in its own `precision` and hands out float32. Its weights stay float32.

    Derive the heavy parts of a network from it; backbones and ASPP are. `compute_in` sets the precision. Losses, pooling and all
    other mathematics are outside of such parts, so they are float32 whatever a network computes in.
    """

    precision = torch.float32
    graphs: Callable[..., Any] | None = None  # a training's `backbones.graphs.Graphs`

    def __call__(self, images: torch.Tensor, *rest: Any) -> Any:
        """As `nn.Module.__call__`."""
        compute = partial(self.computed, super().__call__)
        return compute(images, *rest) if self.graphs is None else self.graphs(self, compute, (images, *rest))

    def computed(self, function: Callable[..., Any], images: torch.Tensor, *rest: Any) -> Any:
        """What `function(images, *rest)` makes in this part's precision, as float32: a tensor, or tuples and lists of tensors."""
        if self.precision is torch.float32:
            return function(images, *rest)
        with torch.autocast(images.device.type, self.precision):
            made = function(images, *rest)
        return _as_float32(made)


def compute_in(network: nn.Module, precision: str) -> None:
    """Let all parts of a network that have a precision of their own compute in `precision`, a floating-point type of torch.

    Raises WrongInput if the network has no such part and `precision` is not float32.
    """
    parts = [module for module in network.modules() if isinstance(module, MixedPrecision)]
    if precision != "float32" and not parts:
        raise WrongInput(
            f"{type(network).__name__} has no part that computes in {precision}; set the precision to float32, "
            "or derive its heavy part from backbones.precision.MixedPrecision"
        )
    for part in parts:
        part.precision = getattr(torch, precision)


def _as_float32(made: Any) -> Any:
    if isinstance(made, torch.Tensor):
        return made.float() if made.is_floating_point() else made
    parts = map(_as_float32, made)
    return type(made)(*parts) if hasattr(made, "_fields") else type(made)(parts)  # named tuples take their fields one by one
