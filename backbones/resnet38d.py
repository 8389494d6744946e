"""ResNet-38, the wide residual network of the SEAM family, dilated to stride 8.

Wu, Shen and van den Hengel, Wider or Deeper: Revisiting the ResNet Model for Visual Recognition, Pattern Recognition 2019, in
the form of Ahn and Kwak, AffinityNet, CVPR 2018, which SEAM, PMM, SIPE, Spatial-BCE, MCTformer and HFPL use. Its modules have
the names of their public code, so the `.pth` files of that code fit; `renamed` knows those of the authors' MXNet file.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Unpack

import torch
from torch import nn
from torch.nn import functional

from backbones.backbone import Backbone, Options
from backbones.state import State

_TAPPED = ("b4", "b5", "b6")  # blocks whose activated input is a tap: conv3, conv4 and conv5 of the public code
_MXNET = re.compile(r"(?:res|bn)(\d)(?:a|b(\d+))_(branch\w+?)_(\w+)")  # such as res4b5_branch2a_weight
_ENDINGS = {  # of MXNet's names -> of torch's
    "weight": "weight",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_var": "running_var",
}


class Block(nn.Module):
    """Two 3x3 convolutions, each after batch norm and ReLU.

    The shortcut is the input, or a 1x1 convolution of the activated input where the sizes differ. It returns the sum
    [B,outputs,h,w] and the activated input [B,inputs,H,W].
    """

    def __init__(
        self, inputs: int, width: int, outputs: int, *, stride: int = 1, first_dilation: int = 0, dilation: int = 1
    ) -> None:
        super().__init__()
        first = first_dilation or dilation
        self.bn_branch2a = nn.BatchNorm2d(inputs)
        self.conv_branch2a = _conv3x3(inputs, width, first, stride)
        self.bn_branch2b1 = nn.BatchNorm2d(width)
        self.conv_branch2b1 = _conv3x3(width, outputs, dilation)
        if inputs != outputs or stride != 1:
            self.conv_branch1 = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        activated = functional.relu(self.bn_branch2a(features))
        shortcut = self.conv_branch1(activated) if hasattr(self, "conv_branch1") else features
        inner = functional.relu(self.bn_branch2b1(self.conv_branch2a(activated)))
        return shortcut + self.conv_branch2b1(inner), activated


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions, each after batch norm and ReLU, the last two after the dropout of whole channels as well.

    It returns what a `Block` returns.
    """

    def __init__(self, inputs: int, outputs: int, *, dilation: int, dropout: float) -> None:
        super().__init__()
        self.bn_branch2a = nn.BatchNorm2d(inputs)
        self.conv_branch2a = nn.Conv2d(inputs, outputs // 4, 1, bias=False)
        self.bn_branch2b1 = nn.BatchNorm2d(outputs // 4)
        self.dropout_2b1 = nn.Dropout2d(dropout)
        self.conv_branch2b1 = _conv3x3(outputs // 4, outputs // 2, dilation)
        self.bn_branch2b2 = nn.BatchNorm2d(outputs // 2)
        self.dropout_2b2 = nn.Dropout2d(dropout)
        self.conv_branch2b2 = nn.Conv2d(outputs // 2, outputs, 1, bias=False)
        self.conv_branch1 = nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        activated = functional.relu(self.bn_branch2a(features))
        inner = functional.relu(self.bn_branch2b1(self.conv_branch2a(activated)))
        inner = functional.relu(self.bn_branch2b2(self.conv_branch2b1(self.dropout_2b1(inner))))
        return self.conv_branch1(activated) + self.conv_branch2b2(self.dropout_2b2(inner)), activated


class ResNet38d(Backbone):
    """Taps conv3 at /4, conv4, conv5 and conv6 at /8, all after batch norm and ReLU; `width` is the stem's, 64 as published.

    The strides and dilations are part of the network. With `frozen_statistics` the scale and shift of batch norms are frozen
    too, as in all the public code.
    """

    output_strides = (8,)
    strides = (4, 8, 8, 8)

    def __init__(self, *, width: int = 64, frozen_statistics: bool) -> None:
        super().__init__(frozen_statistics)
        self.rectified = True
        w2, w4, w8, w16, w32, w64 = (width * 2**power for power in range(1, 7))
        self.channels = (w4, w8, w16, w64)
        self.conv1a = nn.Conv2d(3, width, 3, padding=1, bias=False)
        for stage, inputs, outputs, count in ((2, width, w2, 3), (3, w2, w4, 3), (4, w4, w8, 6)):
            self._add(
                stage, Block(inputs, outputs, outputs, stride=2), *(Block(outputs, *[outputs] * 2) for _ in range(count - 1))
            )
        first = Block(w8, w8, w16, first_dilation=1, dilation=2)
        self._add(5, first, *(Block(w16, w8, w16, dilation=2) for _ in range(2)))
        self._add(6, Bottleneck(w16, w32, dilation=4, dropout=0.3))
        self._add(7, Bottleneck(w32, w64, dilation=4, dropout=0.5))
        self.bn7 = nn.BatchNorm2d(w64)
        for norm in (module for module in self.modules() if isinstance(module, nn.BatchNorm2d)):
            norm.requires_grad_(not frozen_statistics)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        features, taps = self.conv1a(images), []
        for name, block in self._blocks():
            features, activated = block(features)
            if name in _TAPPED:
                taps.append(activated)
        last = self.bn7(features)
        return (*taps, functional.relu(last) if self.rectified else last)

    def drop_last_rectifier(self) -> None:
        self.rectified = False

    def parts(self) -> dict[str, Sequence[nn.Module | nn.Parameter]]:
        """The parts, which have the names of a ResNet's parts at the same strides; SEAM freezes all up to layer1."""
        stages = [[block for name, block in self._blocks() if name[1] in numbers] for numbers in ("2", "3", "4", "567")]
        layers = {f"layer{number}": stage for number, stage in enumerate(stages, start=1)}
        return {"stem": [self.conv1a], **layers, "layer4": [*layers["layer4"], self.bn7]}

    def renamed(self, state: State) -> State:
        """From the names of the public code or of the authors' MXNet file."""
        known = super().renamed(state).items()
        return {_renamed(name): value for name, value in known if not name.startswith("linear1000_")}

    def _add(self, stage: int, *blocks: nn.Module) -> None:
        for number, block in enumerate(blocks):
            self.add_module(f"b{stage}_{number}" if number else f"b{stage}", block)

    def _blocks(self) -> Iterator[tuple[str, nn.Module]]:
        return ((name, module) for name, module in self.named_children() if isinstance(module, Block | Bottleneck))


def resnet38d(**options: Unpack[Options]) -> ResNet38d:
    """ResNet-38 at stride 8."""
    return ResNet38d(frozen_statistics=options["frozen_statistics"])


def _conv3x3(inputs: int, outputs: int, dilation: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride, padding=dilation, dilation=dilation, bias=False)


def _renamed(name: str) -> str:
    """A name of MXNet's file as the public code's; other names stay."""
    if found := _MXNET.fullmatch(name):
        stage, number, branch, ending = found.groups()
        block = f"b{stage}_{number}" if number else f"b{stage}"
        return f"{block}.{'conv' if ending == 'weight' else 'bn'}_{branch}.{_ENDINGS.get(ending, ending)}"
    layer, _, ending = name.partition("_")
    return f"{layer}.{_ENDINGS[ending]}" if layer in ("conv1a", "bn7") and ending in _ENDINGS else name
