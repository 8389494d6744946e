"""Parameter groups by origin: new layers learn faster than pretrained ones, biases faster than weights and without decay."""

from typing import Any

from torch import nn

FACTORS = {(True, False): 1, (True, True): 2, (False, False): 10, (False, True): 20}  # (pretrained, a bias) -> times the rate


def by_origin(network: nn.Module, pretrained: nn.Module, lr: float, weight_decay: float) -> list[dict[str, Any]]:
    """The parameters of `network`: weights of its part `pretrained` at `lr`, its biases at 2 `lr`, new weights at 10 `lr`, new
    biases at 20 `lr`; biases do not decay. The code of AffinityNet, SEAM, PMM and Spatial-BCE (there `get_parameter_groups`).
    """
    known = {id(parameter) for parameter in pretrained.parameters()}
    groups = {
        (old, bias): {"params": list[nn.Parameter](), "lr": factor * lr, "weight_decay": 0.0 if bias else weight_decay}
        for (old, bias), factor in FACTORS.items()
    }
    for name, parameter in network.named_parameters():
        groups[id(parameter) in known, name.endswith("bias")]["params"].append(parameter)  # type: ignore[attr-defined]
    return list(groups.values())
