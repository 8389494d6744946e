"""What every backbone offers to networks: feature maps at known strides, freezing by parts, weights under other names."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Literal, TypedDict

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from backbones.state import State, load_state
from imagesets.errors import WrongInput

Dilated = bool | Literal["uniform"]
CLASSIFIERS = (
    "fc.",
    "classifier.",
    "head.",
    "heads.",
)  # of ImageNet, by torchvision's and timm's names; no network here keeps one


class Options(TypedDict):
    """What every architecture (a function that builds a backbone) is called with; see `backbones.build`."""

    stride: int
    dilated: Dilated
    frozen_statistics: bool


class Backbone(nn.Module, ABC):
    """A feature extractor: an image to feature maps (taps), the last of which classifiers and decoders read.

    With `frozen_statistics` every batch norm, if there is one, normalises by its stored statistics, in training too, and
    never changes them (their scale and shift still train); small batches from pretrained weights need that, training from
    scratch needs the opposite.
    """

    channels: tuple[int, ...]  # the width of each tap
    strides: tuple[int, ...]  # how many pixels of the image a cell of each tap is, in either direction
    output_strides: tuple[int, ...] = (8, 16, 32)  # strides of the last tap that can be asked for
    imagenet = ""  # "torchvision:NAME" or "timm:NAME": the network whose ImageNet weights fit, if there is one

    def __init__(self, frozen_statistics: bool) -> None:
        super().__init__()
        self.frozen_statistics = frozen_statistics

    @abstractmethod
    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Normalised images [B,3,H,W] of any size to taps [B,channels[i],ceil(H/strides[i]),ceil(W/strides[i])]."""

    @abstractmethod
    def parts(self) -> dict[str, Sequence[nn.Module | nn.Parameter]]:
        """All modules and parameters by part, in the order that an image meets them; the first part is called stem."""

    def renamed(self, state: State) -> State:
        """A file's state dict under this network's own names, without the entries that it does not keep.

        Changes nothing else and may leave names that it does not know: loading refuses those. By default the names are
        this network's own already, beside those of an ImageNet classifier.
        """
        return {name: value for name, value in state.items() if not name.startswith(CLASSIFIERS)}

    def freeze(self, part: str) -> None:
        """Switch off the gradients of everything up to and including a part; "none" leaves all as it is."""
        parts = self.parts()
        if part not in ("none", *parts):
            raise WrongInput(f"this backbone has no part {part!r} to freeze; it has {', '.join(parts)}")
        for name, members in parts.items() if part != "none" else ():
            for member in members:
                member.requires_grad_(False)
            if name == part:
                return

    def adopt(self, network: nn.Module) -> None:
        """Start from the backbone of a trained `network`, for those that have no initial weights of their own."""
        trained = getattr(network, "backbone", None)
        told = (
            "with backbone.weights=none a network starts from the backbone of the one trained before it, which here is of "
            "another kind; set backbone.weights to imagenet or a file"
        )
        load_state(self, trained.state_dict() if isinstance(trained, Backbone) else {}, told)

    def train(self, mode: bool = True) -> "Backbone":
        """As `nn.Module.train`, except that frozen batch norms stay in evaluation mode."""
        super().train(mode)
        if self.frozen_statistics:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self


def limit_stride(stages: Mapping[int, nn.Module], stride: int, dilated: Dilated) -> None:
    """Take the stride from the stages that would pass `stride`; `stages` maps the stride each one reaches to it, in order.

    `dilated=False`: the stride is simply dropped (the CAM family). True: what follows is dilated in its place, so that
    every filter sees the spacing it was trained for; the first 3x3 convolution of a stage keeps the spacing of the stage
    before (torchvision). "uniform": the first one is dilated as well (DeepLab).
    """
    dilation = 1
    for stage in (stage for reached, stage in stages.items() if reached > stride):
        convolutions = [module for module in stage.modules() if isinstance(module, nn.Conv2d)]
        for convolution in convolutions:
            convolution.stride = (1, 1)
        if dilated:
            spatial = [convolution for convolution in convolutions if convolution.kernel_size == (3, 3)]
            for index, convolution in enumerate(spatial):
                spacing = dilation if index == 0 and dilated != "uniform" else 2 * dilation
                convolution.dilation = convolution.padding = (spacing, spacing)
            dilation *= 2
