"""DeepLabV2: Chen et al., DeepLab: Semantic Image Segmentation with Deep Convolutional Nets, Atrous Convolution, and Fully
Connected CRFs, TPAMI 2018; trained as in kazuto1011/deeplab-pytorch, which ReCAM, LPCAM and AMN use.

We differ from that code in two points. It takes Caffe weights (stride on the first 1x1 convolution, BGR, mean only); we take
torchvision's (stride on the 3x3, RGB, mean and standard deviation). It halves each batch and adds up two gradients, which is
`accumulate` 2 on one worker; with whole batches only the weight of void pixels differs. The crops are that code's: sizes are
rounded down, images are resized bilinearly as floats, and an image smaller than the crop lies in its corner.
"""

from collections.abc import Sequence

import torch
from torch import nn

import backbones
from segmentation.aspp import ASPP
from segmentation.learning import learning
from segmentation.losses import cross_entropy, shrunk
from segmentation.masked_crop import scaled_top_left_crop
from segmentation.multi_scale import at_scales, largest
from segmentation.parameter_groups import with_faster_head
from segmentation.schedules import staircase
from segmentation.segmenter import build_backbone
from training import optimisers
from training.stage import Context, Losses, Outputs, Settings, Training

MSC_SCALES = (1.0, 0.5, 0.75)


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


def network(settings: Settings, classes: Sequence[str], weights: str = "none") -> DeepLabV2:
    """The network, with initial `weights` as in `backbones.build`, or without any, for trained ones to be loaded into."""
    backbone = build_backbone(settings, weights, frozen=True, stride=settings.stride, dilated="uniform")
    return DeepLabV2(backbone, len(classes) + 1, settings.rates)


def training(context: Context) -> Training:
    """Train on the pseudo masks of the training list."""
    settings = context.settings
    module = network(settings, context.classes, settings.weights)
    decay = staircase if settings.schedule == "staircase" else optimisers.poly
    return learning(
        context,
        module,
        PseudoMaskObjective(module, MSC_SCALES if settings.msc else (1.0,)),
        scaled_top_left_crop(context),
        with_faster_head(module.backbone, module.aspp, settings.lr, settings.weight_decay),
        decay(settings.iterations),
    )
