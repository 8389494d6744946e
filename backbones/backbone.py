"""What every backbone offers to networks: five taps, their widths, freezing of its first layers and of its batch norms."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Literal, TypedDict

import torch
from torch import nn

from imagesets.errors import WrongInput

Dilated = bool | Literal["uniform"]
Part = Literal["none", "stem", "layer2"]


class Options(TypedDict):
    """What every architecture (a function that builds a backbone) is called with; see `backbones.build`."""

    stride: int
    dilated: Dilated
    frozen_statistics: bool


class Backbone(nn.Module, ABC):
    """A feature extractor; `channels` are the widths of its five taps.

    With `frozen_statistics` every batch norm normalises by its stored statistics, in training too, and never changes
    them (their scale and shift still train); small batches from pretrained weights need that, training from scratch
    needs the opposite.
    """

    channels: tuple[int, int, int, int, int]
    torchvision = ""  # torchvision's name of the network whose ImageNet weights fit, if it has any

    def __init__(self, frozen_statistics: bool) -> None:
        super().__init__()
        self.frozen_statistics = frozen_statistics

    @abstractmethod
    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Normalised images [B,3,H,W] to taps x1 (stem, /4), x2 (/4), x3 (/8), x4 (/16) and x5 (/stride).

        No tap is coarser than the stride the backbone was built with.
        """

    @abstractmethod
    def _parts(self) -> dict[str, Sequence[nn.Module]]:
        """The modules of `stem` and those that follow it up to `layer2`, the last at /8."""

    def freeze(self, part: Part) -> None:
        """Switch off the gradients of the stem, or of everything up to and including layer2."""
        parts = self._parts()
        chosen = {"none": [], "stem": ["stem"], "layer2": ["stem", "layer2"]}[part]
        for module in (module for name in chosen for module in parts[name]):
            module.requires_grad_(False)

    def adopt(self, network: nn.Module) -> None:
        """Start from the backbone of a trained `network`, for those that have no initial weights of their own."""
        try:
            self.load_state_dict(network.get_submodule("backbone").state_dict())
        except (AttributeError, RuntimeError) as error:
            raise WrongInput(
                "with backbone.weights=none a network starts from the backbone of the one trained before it, which here is of "
                "another kind; set backbone.weights to imagenet or a file"
            ) from error

    def train(self, mode: bool = True) -> "Backbone":
        """As `nn.Module.train`, except that frozen batch norms stay in evaluation mode."""
        super().train(mode)
        if self.frozen_statistics:
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
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
