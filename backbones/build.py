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

    `stride` is that of the last tap; None is 16, or what the architecture has in its place.

    An architecture is a function such as `backbones.resnet.resnet50`; the tables of the recipes of kind `backbone` name
    them. It takes the options, and some of its `own` such as `class_tokens`. `weights`: "none" (drawn from torch's
    generator), "imagenet" (torchvision's or timm's, as the architecture says) or the path of a plain state dict in any
    names that `Backbone.renamed` knows. `dilated` is explained at `limit_stride`. Raises WrongInput on a stride that the
    architecture does not have and on weights that cannot be had or do not fit.
    """
    backbone = architecture(stride=16 if stride is None else stride, dilated=dilated, frozen_statistics=frozen_statistics, **own)
    if stride is not None and stride not in backbone.output_strides:
        possible = " or ".join(map(str, backbone.output_strides))
        raise WrongInput(f"the output stride of backbone {architecture.__name__} is {possible}, not {stride}")
    initialise(backbone, architecture.__name__, weights)
    return backbone
