"""A backbone from its architecture and initial weights."""

from collections.abc import Callable
from typing import Any

from backbones.backbone import Backbone, Dilated
from backbones.weights import initialise
from imagesets.errors import WrongInput


def build(
    architecture: Callable[..., Backbone],
    *,
    stride: int | None = None,
    dilated: Dilated = False,
    weights: str = "none",
    frozen_statistics: bool,
    **own: Any,
) -> Backbone:
    """The backbone of an `architecture` with an output stride and the given initial `weights`.

    `stride` is that of the last tap; None is 16, or the architecture's own if it does not have 16.

    An architecture is a function such as `backbones.resnet.resnet50`; the tables of the recipes of kind `backbone` name
    the architectures. It takes the options, and perhaps options of its `own` such as `class_tokens`. `weights` is "none" (drawn
    from torch's generator), "imagenet" (torchvision's or timm's, as the architecture says) or the path of a plain state dict with
    names that `Backbone.renamed` knows. `limit_stride` explains `dilated`. Raises WrongInput if the architecture does not have
    the stride, or if the weights are missing or do not fit.
    """
    backbone = architecture(stride=16 if stride is None else stride, dilated=dilated, frozen_statistics=frozen_statistics, **own)
    if stride is not None and stride not in backbone.output_strides:
        possible = " or ".join(map(str, backbone.output_strides))
        raise WrongInput(f"the output stride of backbone {architecture.__name__} is {possible}, not {stride}")
    initialise(backbone, architecture.__name__, weights)
    return backbone
