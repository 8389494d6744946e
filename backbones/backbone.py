"""What every backbone offers: feature maps at known strides, freezing by parts, weights under other names."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Literal, TypedDict

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from backbones.depthwise import DepthwiseConv2d
from backbones.precision import MixedPrecision
from backbones.state import State, load_state
from imagesets.errors import WrongInput

Dilated = bool | Literal["uniform", "recurseed"]
# ImageNet classifiers by torchvision's and timm's names; our networks drop them
CLASSIFIERS = ("fc.", "classifier.", "head.", "heads.")


class Options(TypedDict):
    """The options of every architecture, which is a function that builds a backbone; see `backbones.build`."""

    stride: int
    dilated: Dilated
    frozen_statistics: bool


class Backbone(MixedPrecision, ABC):
    """A feature extractor from an image to feature maps (taps); classifiers and decoders read the last one.

    With `frozen_statistics` every batch norm normalises by its stored statistics and never changes them, in training too (scale
    and shift still train). Small batches on pretrained weights need this; training from scratch needs live statistics.
    """

    channels: tuple[int, ...]  # the width of each tap
    strides: tuple[int, ...]  # pixels of the image per cell of each tap, in each direction
    output_strides: tuple[int, ...] = (8, 16, 32)  # possible strides of the last tap
    imagenet = ""  # "torchvision:NAME" or "timm:NAME": the network whose ImageNet weights fit, if there is one

    def __init__(self, frozen_statistics: bool) -> None:
        super().__init__()
        self.frozen_statistics = frozen_statistics

    @abstractmethod
    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Normalised images [B,3,H,W] of any size to taps [B,channels[i],ceil(H/strides[i]),ceil(W/strides[i])]."""

    @abstractmethod
    def parts(self) -> dict[str, Sequence[nn.Module | nn.Parameter]]:
        """All modules and parameters by part, in the order in which an image passes them; the first part is called stem."""

    def drop_last_rectifier(self) -> None:
        """Take away the ReLU in which the last tap ends, so that its values have both signs; without one nothing changes."""

    def renamed(self, state: State) -> State:
        """A file's state dict under this network's own names, without the entries that it does not keep.

        It changes nothing else. It may leave names that it does not know; loading then refuses them. By default the file has this
        network's own names, and perhaps those of an ImageNet classifier, which are dropped.
        """
        return {name: value for name, value in state.items() if not name.startswith(CLASSIFIERS)}

    def freeze(self, part: str) -> None:
        """Switch off the gradients of everything up to and including a part; "none" freezes nothing."""
        parts = self.parts()
        if part not in ("none", *parts):
            raise WrongInput(f"this backbone has no part {part!r} to freeze; it has {', '.join(parts)}")
        for name, members in parts.items() if part != "none" else ():
            for member in members:
                member.requires_grad_(False)
            if name == part:
                return

    def keep_weights(self) -> None:
        """Keep the weights of layers in this backbone's precision, if it is only read: autocast would convert them at every pass.

        The taps have the same bits. Depthwise convolutions keep float32, in which they compute where gradients are needed.
        """
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear) and not isinstance(module, DepthwiseConv2d):
                module.to(self.precision)

    def adopt(self, network: nn.Module) -> None:
        """Take the weights of the backbone of a trained `network`, in place of initial weights."""
        trained = getattr(network, "backbone", None)
        told = (
            "with backbone.weights=none a network starts from the backbone of the network before it, and that one is of "
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
    """Remove the stride of stages that would exceed `stride`; `stages` maps the stride that each stage reaches to the stage.

    `dilated=False`: the stride is removed and nothing else (the CAM family). True: the later convolutions are dilated instead, so
    every filter sees the spacing of its training; the first spatial convolution of a stage keeps the spacing of the stage
    before (torchvision). "uniform": that first convolution is dilated as well (DeepLab). "recurseed": it is never dilated.
    """
    dilation = 1  # of the stage before
    for stage in (stage for reached, stage in stages.items() if reached > stride):
        convolutions = [module for module in stage.modules() if isinstance(module, nn.Conv2d)]
        for convolution in convolutions:
            convolution.stride = (1, 1)
        if dilated:
            spatial = [convolution for convolution in convolutions if convolution.kernel_size > (1, 1)]
            for index, convolution in enumerate(spatial):
                first = {"uniform": 2 * dilation, "recurseed": 1}.get(str(dilated), dilation)
                spacing = 2 * dilation if index else first
                convolution.dilation = (spacing, spacing)
                convolution.padding = tuple(spacing * (side // 2) for side in convolution.kernel_size)
            dilation *= 2
