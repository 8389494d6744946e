"""The parameter groups of the SEAM family: weights and biases of a trained backbone, and of new layers."""

from typing import Any

from torch import nn


def weights_and_biases(
    backbone: nn.Module, new: nn.Module, lr: float, new_lr: float, weight_decay: float
) -> list[dict[str, Any]]:
    """The backbone's weights at `lr` and its biases at twice that, those of the `new` layers at `new_lr` and twice that.

    Biases have no weight decay (the public code of AffinityNet and SEAM).
    """
    rated = [(module, rate) for module, rate in ((backbone, lr), (new, new_lr))]
    return [
        {"params": [value for name, value in module.named_parameters() if name.endswith("bias") == bias], **group}
        for module, rate in rated
        for bias, group in ((False, {"lr": rate, "weight_decay": weight_decay}), (True, {"lr": 2 * rate, "weight_decay": 0.0}))
    ]
