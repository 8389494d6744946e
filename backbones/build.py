"""A backbone from its architecture and initial weights."""

from collections.abc import Callable

from backbones.backbone import Backbone, Dilated
from backbones.weights import initialise
from imagesets.errors import WrongInput


def build(
    architecture: Callable[..., Backbone],
    *,
    stride: int = 16,
    dilated: Dilated = False,
    weights: str = "none",
    frozen_statistics: bool,
) -> Backbone:
    """The backbone of an `architecture` with output stride 8, 16 or 32 and the given initial `weights`.

    An architecture is a function such as `backbones.resnet.resnet50`; the tables of the recipes of kind `backbone` name
    them. `weights`: "none" (drawn from torch's generator), "imagenet" (torchvision's IMAGENET1K_V1) or the path of a
    plain torchvision state dict. `dilated` is explained at `limit_stride`. Raises WrongInput on an unknown stride and on
    weights that cannot be had or do not fit.
    """
    if stride not in (8, 16, 32):
        raise WrongInput(f"a backbone's output stride is 8, 16 or 32, not {stride}")
    backbone = architecture(stride=stride, dilated=dilated, frozen_statistics=frozen_statistics)
    initialise(backbone, architecture.__name__, weights)
    return backbone
