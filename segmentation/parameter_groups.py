"""Parameter groups of segmenters: which parts train faster than the backbone, and which have no weight decay."""

from typing import Any

from torch import nn

UNDECAYED = ("norm", "relative_position_bias_table")  # parts of names; biases and the batch norms of decoders do decay


def with_faster_head(backbone: nn.Module, head: nn.Module, lr: float, weight_decay: float) -> list[dict[str, Any]]:
    """The backbone at the base rate, the head's convolutions at 10 times that, their biases at 20 times and without decay.

    The public codes of DeepLabV2 (deeplab-pytorch) and of SEAM's segmenter collect convolutions alone: batch norms of a head keep
    their initial scale and shift.
    """
    convolutions = [module for module in head.modules() if isinstance(module, nn.Conv2d)]
    biases = [module.bias for module in convolutions if module.bias is not None]
    return [
        {"params": list(backbone.parameters()), "lr": lr, "weight_decay": weight_decay},
        {"params": [module.weight for module in convolutions], "lr": 10 * lr, "weight_decay": weight_decay},
        {"params": biases, "lr": 20 * lr, "weight_decay": 0.0},
    ]


def without_decay(network: nn.Module, lr: float, weight_decay: float) -> list[dict[str, Any]]:
    """One rate for all; layer norms and position tables have no weight decay (Swin's configuration of mmsegmentation)."""
    free = [value for name, value in network.named_parameters() if any(part in name for part in UNDECAYED)]
    chosen = set(map(id, free))
    decayed = [value for value in network.parameters() if id(value) not in chosen]
    return [
        {"params": decayed, "lr": lr, "weight_decay": weight_decay},
        {"params": free, "lr": lr, "weight_decay": 0.0},
    ]
