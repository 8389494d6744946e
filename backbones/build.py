"""Backbones by name."""

from collections.abc import Callable
from functools import partial

from backbones.backbone import Backbone, Dilated
from backbones.mobilenet import MobileNetV2
from backbones.resnet import ResNet
from backbones.vision_models import models
from backbones.weights import initialise
from imagesets.errors import WrongInput

_BASIC, _BOTTLENECK = models.resnet.BasicBlock, models.resnet.Bottleneck
_WIDTHS = (64, 128, 256, 512)

_ARCHITECTURES: dict[str, Callable[..., Backbone]] = {
    # our own, for 128-pixel images on a CPU: 0.1 GMAC at 128 x 128 and stride 16
    "small": partial(ResNet, _BASIC, (1, 1, 1, 1), (32, 64, 128, 256), stem_kernel=3),
    "resnet18": partial(ResNet, _BASIC, (2, 2, 2, 2), _WIDTHS),
    "resnet34": partial(ResNet, _BASIC, (3, 4, 6, 3), _WIDTHS),
    "resnet50": partial(ResNet, _BOTTLENECK, (3, 4, 6, 3), _WIDTHS),
    "resnet101": partial(ResNet, _BOTTLENECK, (3, 4, 23, 3), _WIDTHS),
    "mobilenetv2": MobileNetV2,
}
NAMES = tuple(_ARCHITECTURES)


def build(name: str, *, stride: int = 16, dilated: Dilated = False, weights: str = "none", frozen_statistics: bool) -> Backbone:
    """The backbone called `name` with output stride 8, 16 or 32 and the given initial `weights`.

    `weights`: "none" (drawn from torch's generator), "imagenet" (torchvision's IMAGENET1K_V1) or the path of a plain
    torchvision state dict. `dilated` is explained at `limit_stride`. Raises WrongInput on an unknown name or stride and
    on weights that cannot be had or do not fit.
    """
    if name not in _ARCHITECTURES:
        raise WrongInput(f"there is no backbone called {name!r}; there are {', '.join(NAMES)}")
    if stride not in (8, 16, 32):
        raise WrongInput(f"a backbone's output stride is 8, 16 or 32, not {stride}")
    backbone = _ARCHITECTURES[name](stride=stride, dilated=dilated, frozen_statistics=frozen_statistics)
    initialise(backbone, name, weights)
    return backbone
