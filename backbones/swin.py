"""Swin Transformer (Liu et al., ICCV 2021): torchvision's network with the taps of its four stages.

Torchvision's stages equal those of the official segmentation backbone at any image size but one: where a stage has at most 7
cells in a direction (images up to 224 pixels), torchvision does not shift the windows there, as the official classifier does.
"""

import re
from collections.abc import Sequence
from typing import Unpack

import torch
from torch import nn
from torch.nn import functional

from backbones.backbone import Backbone, Options
from backbones.state import State
from backbones.vision_models import models

PATCH = 4  # pixels of a patch in each direction
WINDOW = 7  # cells of an attention window in each direction
OFFICIAL_NAMES = (  # of the authors' files, by pattern -> torchvision's
    (r"^patch_embed\.proj\.", lambda found: "features.0.0."),
    (r"^patch_embed\.norm\.", lambda found: "features.0.2."),
    (r"^layers\.(\d+)\.blocks\.", lambda found: f"features.{2 * int(found[1]) + 1}."),
    (r"^layers\.(\d+)\.downsample\.", lambda found: f"features.{2 * int(found[1]) + 2}."),
    (r"\.mlp\.fc1\.", lambda found: ".mlp.0."),
    (r"\.mlp\.fc2\.", lambda found: ".mlp.3."),
    (r"^norm(\d+)\.", lambda found: f"norms.{found[1]}."),
)


class Swin(Backbone):
    """Taps at /4, /8, /16 and /32, each after a layer norm of its own, as UperNet reads them.

    Images are filled up with 0 on the right and below to whole patches. `drop_path` is the probability with which the last
    block is left out in training (stochastic depth); it grows linearly from 0 at the first block.
    """

    output_strides = (32,)

    def __init__(
        self,
        width: int,
        depths: Sequence[int],
        heads: Sequence[int],
        *,
        drop_path: float = 0.0,
        imagenet: str = "",
        frozen_statistics: bool,
    ) -> None:
        super().__init__(frozen_statistics)
        self.imagenet = imagenet
        whole = models.swin_transformer.SwinTransformer(
            [PATCH] * 2, width, list(depths), list(heads), [WINDOW] * 2, stochastic_depth_prob=drop_path, num_classes=1
        )
        self.features = whole.features
        self.channels = tuple(width * 2**stage for stage in range(len(depths)))
        self.strides = tuple(PATCH * 2**stage for stage in range(len(depths)))
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for channels in self.channels)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        height, width = images.shape[2:]
        cells, taps = functional.pad(images, (0, -width % PATCH, 0, -height % PATCH)), []
        for index, part in enumerate(self.features):  # patches, stage, merging, stage, merging, ...
            cells = part(cells)
            if index % 2:
                taps.append(self.norms[index // 2](cells).permute(0, 3, 1, 2))
        return tuple(taps)

    def parts(self) -> dict[str, Sequence[nn.Module | nn.Parameter]]:
        """The parts, which have the names of a ResNet's parts at the same strides."""
        layers = {
            f"layer{stage + 1}": [*self.features[max(1, 2 * stage) : 2 * stage + 2], norm]
            for stage, norm in enumerate(self.norms)
        }
        return {"stem": [self.features[0]], **layers}

    def renamed(self, state: State) -> State:
        """From torchvision's or the authors' names. A classifier has one norm, the last tap's; the others stay as they are."""
        own = {name: value for name, value in self.state_dict().items() if "relative_position_index" in name or "norms." in name}
        for name, value in super().renamed(state).items():
            if name.endswith((".relative_position_index", ".attn_mask")):  # made from the size of the windows
                continue
            for pattern, ours in OFFICIAL_NAMES:
                name = re.sub(pattern, ours, name)
            own[re.sub(r"^norm\.", f"norms.{len(self.norms) - 1}.", name)] = value
        return own


def swin_t(*, drop_path: float = 0.0, **options: Unpack[Options]) -> Swin:
    """Swin-T."""
    return _swin("swin_t", 96, (2, 2, 6, 2), (3, 6, 12, 24), drop_path, options)


def swin_s(*, drop_path: float = 0.0, **options: Unpack[Options]) -> Swin:
    """Swin-S."""
    return _swin("swin_s", 96, (2, 2, 18, 2), (3, 6, 12, 24), drop_path, options)


def swin_b(*, drop_path: float = 0.0, **options: Unpack[Options]) -> Swin:
    """Swin-B."""
    return _swin("swin_b", 128, (2, 2, 18, 2), (4, 8, 16, 32), drop_path, options)


def _swin(name: str, width: int, depths: Sequence[int], heads: Sequence[int], drop_path: float, options: Options) -> Swin:
    imagenet, frozen = f"torchvision:{name}", options["frozen_statistics"]
    return Swin(width, depths, heads, drop_path=drop_path, imagenet=imagenet, frozen_statistics=frozen)
