"""Parameter groups by origin: new layers learn faster than pretrained ones, biases faster than weights and without decay."""

from typing import Any

from torch import nn


def by_origin(network: nn.Module, pretrained: nn.Module, lr: float, new_lr: float, weight_decay: float) -> list[dict[str, Any]]:
    """The parameters of `network`: weights of its part `pretrained` at `lr`, new ones at `new_lr`, biases at twice that.

    Biases do not decay. The code of AffinityNet, SEAM and PMM, where new layers have ten times the rate.
    """
    known = {id(parameter) for parameter in pretrained.parameters()}
    groups = {
        (old, bias): {
            "params": list[nn.Parameter](),
            "lr": (2 if bias else 1) * (lr if old else new_lr),
            "weight_decay": 0.0 if bias else weight_decay,
        }
        for old in (True, False)
        for bias in (False, True)
    }
    for name, parameter in network.named_parameters():
        groups[id(parameter) in known, name.endswith("bias")]["params"].append(parameter)  # type: ignore[attr-defined]
    return list(groups.values())
