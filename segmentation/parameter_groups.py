"""Parameter groups of segmenters: which parts train faster than the backbone, and which have no weight decay."""

from typing import Any

from torch import nn

from segmentation.segmenter import Segmenter

UNDECAYED = ("norm", "relative_position_bias_table", "pos_embed")  # parts of a backbone's names; biases and decoders do decay


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


def by_part(
    network: Segmenter,
    lr: float,
    head_factor: float,
    weight_decay: float,
    classifier: nn.Module | None = None,
    classifier_factor: float = 1.0,
) -> list[dict[str, Any]]:
    """The backbone at the base rate, the decoders at `head_factor` times that, their part `classifier` at a multiple of theirs.

    Layer norms and position tables have no weight decay (Swin's configuration of mmsegmentation); no ResNet has any.
    """
    # by kind as well: torchvision does not call the norm of Swin's patch embedding one
    norms = {id(own) for module in network.backbone.modules() if isinstance(module, nn.LayerNorm) for own in module.parameters()}
    free, decayed = list[nn.Parameter](), list[nn.Parameter]()
    for name, value in network.backbone.named_parameters():
        (free if id(value) in norms or any(part in name for part in UNDECAYED) else decayed).append(value)
    last = list(classifier.parameters()) if classifier else []
    elsewhere = {id(value) for value in (*free, *decayed, *last)}
    heads = [value for value in network.parameters() if id(value) not in elsewhere]
    return [
        {"params": decayed, "lr": lr, "weight_decay": weight_decay},
        {"params": free, "lr": lr, "weight_decay": 0.0},
        {"params": heads, "lr": head_factor * lr, "weight_decay": weight_decay},
        *([{"params": last, "lr": classifier_factor * head_factor * lr, "weight_decay": weight_decay}] if last else []),
    ]
