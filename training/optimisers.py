"""Optimisers, learning-rate schedules and the length of a training."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from imagesets.errors import WrongInput

Schedule = Callable[[int], float]  # number of the step, from 0 -> factor on every group's base rate


def build(kind: str, groups: list[dict[str, Any]], momentum: float = 0.0) -> torch.optim.Optimizer:
    """Optimiser over `groups`, each {"params", "lr", "weight_decay"} with its base rate.

    `kind` is "sgd" (no Nesterov, no dampening), "adam" (weight decay as an L2 term of the gradient) or "adamw" (decoupled
    weight decay); only sgd uses `momentum`. Frozen parameters are left out, so weight decay cannot change them.
    """
    trainable = [{**group, "params": [parameter for parameter in group["params"] if parameter.requires_grad]} for group in groups]
    # fused: few kernels on a GPU; on a CPU adam and adamw take a third of the time, and sgd does the same as without
    if kind == "sgd":
        return torch.optim.SGD(trainable, momentum=momentum, fused=True)
    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    if kind not in kinds:
        raise WrongInput(f"there is no optimiser {kind!r}; there are sgd, adam and adamw")
    return kinds[kind](trainable, fused=True)


def clipped(optimiser: torch.optim.Optimizer, norm: float) -> torch.optim.Optimizer:
    """The optimiser, which now scales the gradient of all its parameters together to at most `norm` before each update."""

    def clip(optimiser: torch.optim.Optimizer, *step: Any) -> None:
        parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        # for float16, torch's scaler leaves its factor here and divides by it in the fused update
        factor = getattr(optimiser, "grad_scale", None)
        length = nn.utils.get_total_norm(gradients)
        nn.utils.clip_grads_with_norm_(parameters, norm, length if factor is None else length / factor)

    optimiser.register_step_pre_hook(clip)
    return optimiser


def groups(weight_decay: float, *parts: tuple[Iterable[nn.Parameter], float]) -> list[dict[str, Any]]:
    """Parameter groups of `parts`, each (parameters, base rate), all with the same weight decay."""
    return [{"params": list(parameters), "lr": rate, "weight_decay": weight_decay} for parameters, rate in parts]


def poly(steps: int, power: float = 0.9) -> Schedule:
    """Polynomial decay (1 - step / steps)^power: from 1 at the first step to 0 after the last."""
    return lambda step: max(0.0, 1 - step / steps) ** power


def warmed_up_poly(steps: int, warm_up: int, power: float = 0.9) -> Schedule:
    """A straight line from 0.1 to 1 in the first `warm_up` steps, then polynomial decay over those that are left (EDAM code)."""
    decay = poly(max(1, steps - warm_up), power)
    return lambda step: 0.1 + 0.9 * step / warm_up if step < warm_up else decay(step - warm_up)


def constant(step: int) -> float:
    """The schedule that leaves every rate as it is."""
    return 1.0


def steps(images: int, batch: int, epochs: int) -> int:
    """The number of steps of a training that drops incomplete last batches: images // batch * epochs.

    Raises WrongInput if the images do not fill one batch.
    """
    if images < batch:
        raise WrongInput(
            f"a batch of {batch} is larger than the training list of {images} examples; lower the batch to at most {images}"
        )
    return images // batch * epochs
