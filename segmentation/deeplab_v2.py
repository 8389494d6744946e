"""DeepLabV2: Chen et al., DeepLab: Semantic Image Segmentation with Deep Convolutional Nets, Atrous Convolution, and Fully
Connected CRFs, TPAMI 2018; trained as in kazuto1011/deeplab-pytorch, which ReCAM, LPCAM and AMN use.

We differ from that code in two points. It takes Caffe weights (stride on the first 1x1 convolution, BGR, mean only); we take
torchvision's (stride on the 3x3, RGB, mean and standard deviation). It halves each batch and adds up two gradients, which is
`accumulate` 2 on one worker; with whole batches only the weight of void pixels differs. The crops are that code's: sizes are
rounded down, images are resized bilinearly as floats, and an image smaller than the crop lies in its corner.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

import backbones
from imagesets.crops import Crop, by_factor
from imagesets.errors import WrongInput
from imagesets.item import VOID, Item
from imagesets.transforms import bilinear
from segmentation.aspp import ASPP
from segmentation.losses import cross_entropy, shrunk
from segmentation.multi_scale import at_scales, largest
from training import optimisers
from training.stage import Context, Losses, Outputs, Records, Settings, Training

MSC_SCALES = (1.0, 0.5, 0.75)
REFRESH = 10  # updates between two values of the staircase schedule


class DeepLabV2(nn.Module):
    """A backbone with dilated last stages, then the sum of parallel 3x3 convolutions with different `rates` (ASPP).

    `labels` counts background. The convolutions have a bias and no normalisation.
    """

    def __init__(self, backbone: backbones.Backbone, labels: int, rates: Sequence[int]) -> None:
        super().__init__()
        self.backbone = backbone
        for module in backbone.modules():
            if isinstance(module, nn.MaxPool2d):
                module.ceil_mode = True  # Caffe's rounding: 320 pixels give 41 cells a side, as 321 do
        self.aspp = ASPP(backbone.channels[-1], labels, rates)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Normalised images [B,3,H,W] to logits [B,labels,h,w] on the coarse grid."""
        return self.aspp(self.backbone(images)[-1])


class PseudoMaskObjective(nn.Module):
    """The cross entropies at each scale and of the maximum over scales; with one scale, only its own."""

    def __init__(self, network: nn.Module, scales: Sequence[float]) -> None:
        super().__init__()
        self.network, self.scales = network, tuple(scales)

    def forward(self, batch: dict[str, torch.Tensor], step: int) -> tuple[Losses, Outputs]:
        """`image` float32 [B,3,H,W] and `label` uint8 [B,H,W] to one cross entropy per scale and one of their maximum.

        The output is logits [B,labels,h,w] at the first scale.
        """
        logits = at_scales(self.network, batch["image"], self.scales)
        named = {f"cross_entropy_{scale:g}": values for scale, values in zip(self.scales, logits, strict=True)}
        if len(logits) > 1:
            named["cross_entropy_max"] = largest(logits)
        losses = {name: cross_entropy(values, shrunk(batch["label"], values.shape[-2:])) for name, values in named.items()}
        return losses, {"logits": logits[0]}


def network(settings: Settings, classes: Sequence[str]) -> DeepLabV2:
    """The network that `training` delivers, for trained weights to be loaded into."""
    return _build(settings, classes, weights="none")


def training(context: Context) -> Training:
    """Train on the pseudo masks of the training list."""
    settings = context.settings
    module = _build(settings, context.classes, settings.weights)
    groups = parameter_groups(module, settings.lr, settings.weight_decay)
    decay = staircase if settings.schedule == "staircase" else optimisers.poly
    return Training(
        network=module,
        objective=PseudoMaskObjective(module, MSC_SCALES if settings.msc else (1.0,)),
        sample=MaskedCrop(context.inputs["masks"], len(context.classes) + 1, settings.scales, settings.crop),
        optimiser=optimisers.build(settings.optimiser, groups, settings.momentum),
        schedule=decay(settings.iterations),
        batch=settings.batch,
        steps=settings.iterations,
        accumulate=settings.accumulate,
    )


def parameter_groups(module: DeepLabV2, lr: float, weight_decay: float) -> list[dict[str, Any]]:
    """Backbone at the base rate, ASPP weights at 10 times that, ASPP biases at 20 times and without decay."""
    return [
        {"params": list(module.backbone.parameters()), "lr": lr, "weight_decay": weight_decay},
        {"params": [branch.weight for branch in module.aspp], "lr": 10 * lr, "weight_decay": weight_decay},
        {"params": [branch.bias for branch in module.aspp], "lr": 20 * lr, "weight_decay": 0.0},
    ]


def staircase(steps: int, power: float = 0.9) -> optimisers.Schedule:
    """(1 - t / steps)^power with t the number of the step rounded down to a multiple of 10."""
    return lambda step: (1 - step // REFRESH * REFRESH / steps) ** power


@dataclass(frozen=True)
class MaskedCrop:
    """Makes one training example: image float32 [3,crop,crop] and label uint8 [crop,crop] in 0..`labels`-1 or void."""

    masks: Records
    labels: int
    scales: Sequence[float]
    crop: int

    def __call__(self, item: Item, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        rgb, label = item.rgb(), self.masks[item.id]["label"]
        check_mask(label, rgb.shape[:2], self.labels, item.id)
        scale = float(rng.choice(self.scales))  # one of a few, not a range
        crop = Crop.drawn(by_factor(rgb.shape[:2], scale), self.crop, rng, top_left=True)
        return {"image": torch.from_numpy(crop.float_image(rgb, bilinear)), "label": torch.from_numpy(crop.label(label))}


def check_mask(label: np.ndarray, size: tuple[int, int], labels: int, name: str) -> None:
    """Raise WrongInput if a mask has another size than its image, or a label that is neither 0..labels-1 nor void."""
    if label.shape != size:
        raise WrongInput(f"the mask of image {name} has the size {label.shape}, its image {size}; sizes must be equal")
    highest = int(label.max(initial=0, where=label != VOID))
    if highest >= labels:
        raise WrongInput(f"the mask of image {name} holds label {highest}; there are {labels} labels, 0 to {labels - 1}")


def _build(settings: Settings, classes: Sequence[str], weights: str) -> DeepLabV2:
    pretrained = settings.weights != "none"
    backbone = backbones.build(
        settings.backbone, stride=settings.stride, dilated="uniform", weights=weights, frozen_statistics=pretrained
    )
    if pretrained:  # batch norms are then constants: their scale and shift do not train either
        for module in backbone.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.requires_grad_(False)
    return DeepLabV2(backbone, len(classes) + 1, settings.rates)
