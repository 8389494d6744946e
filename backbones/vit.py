"""Vision transformers (Dosovitskiy et al., ICLR 2021; DeiT: Touvron et al., ICML 2021): timm's, with tokens and attention."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Unpack

import torch
from torch import nn
from torch.nn import functional

from backbones.backbone import Options
from backbones.half import ToHalf
from backbones.state import State
from backbones.tokens import TokenBackbone, Tokens
from backbones.vision_models import timm_network


class VisionTransformer(TokenBackbone):
    """One tap: the patch tokens of the last block, after the layer norm. The tokens of chosen blocks are those before any norm.

    Images are filled up with 0 on the right and below to whole patches, and position codes are resampled (bicubic) to the
    grid. A file's one class token and its position stand for each of our `class_tokens` (MCTformer). `drop_path` is the
    probability with which the last block is left out in training; it grows linearly from 0 at the first block. `size` are
    timm's settings; `half` is for weights that were trained on images of mean and deviation 0.5.
    """

    def __init__(
        self,
        class_tokens: int,
        drop_path: float,
        options: Options,
        *,
        size: Mapping[str, Any] = {},
        imagenet: str = "",
        half: bool = False,
    ) -> None:
        super().__init__(options["frozen_statistics"])
        self.imagenet = imagenet
        whole = timm_network("vit_small_patch16_224", num_classes=0, drop_path_rate=drop_path, **size)
        self.normalised = ToHalf() if half else nn.Identity()
        self.patch, self.block, self.norm = whole.patch_embed.proj, whole.blocks, whole.norm
        (side, _), width, self.blocks = whole.patch_embed.grid_size, whole.embed_dim, len(whole.blocks)
        self.channels, self.strides = (width,), self.patch.stride[:1]
        self.output_strides = self.strides
        self.class_tokens = nn.Parameter(torch.randn(1, class_tokens, width) / 50)
        self.class_positions = nn.Parameter(torch.randn(1, class_tokens, width) / 50)
        self.positions = nn.Parameter(torch.randn(1, width, side, side) / 50)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        tokens, grid = self._embedded(images)
        tokens = self.norm(self.block(tokens))
        return (_on_grid(tokens[:, self.class_tokens.shape[1] :], grid),)

    def _tokens(self, images: torch.Tensor, blocks: Sequence[int]) -> list[Tokens]:
        tokens, grid = self._embedded(images)
        found, classes = {}, self.class_tokens.shape[1]
        for number, block in enumerate(self.block):
            if number in blocks:
                tokens, attention = _attended(block, tokens)
                found[number] = Tokens(tokens[:, :classes], _on_grid(tokens[:, classes:], grid), attention)
            else:
                tokens = block(tokens)
        return [found[number] for number in blocks]

    def _embedded(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Size]:
        """The tokens [B,N,C] that the first block reads, and the grid of the patches."""
        (side, _), (height, width) = self.patch.stride, images.shape[2:]
        patches = self.patch(functional.pad(self.normalised(images), (0, -width % side, 0, -height % side)))
        grid = patches.shape[2:]
        patches = patches + functional.interpolate(self.positions, size=grid, mode="bicubic", align_corners=False)
        classes = (self.class_tokens + self.class_positions).expand(len(images), -1, -1)
        return torch.cat([classes, patches.flatten(2).transpose(1, 2)], dim=1), grid

    def parts(self) -> dict[str, Sequence[nn.Module | nn.Parameter]]:
        """The stem and the blocks in four groups, which have the names of a ResNet's parts."""
        per_layer = math.ceil(self.blocks / 4)
        layers: dict[str, Sequence[nn.Module | nn.Parameter]] = {
            f"layer{number + 1}": list(self.block[number * per_layer : (number + 1) * per_layer]) for number in range(4)
        }
        stem = [self.patch, self.class_tokens, self.class_positions, self.positions]
        return {"stem": stem, **layers, "layer4": [*layers["layer4"], self.norm]}

    def renamed(self, state: State) -> State:
        """From timm's names, which are DeiT's."""
        own = {_renamed(name): value for name, value in super().renamed(state).items()}
        if not {"cls_token", "pos_embed"} <= own.keys() or not (side := _side(own["pos_embed"])):
            return own
        count, positions = self.class_tokens.shape[1], own.pop("pos_embed")
        own["class_tokens"] = own.pop("cls_token").expand(1, count, -1)
        own["class_positions"] = positions[:, :1].expand(1, count, -1)
        own["positions"] = _on_grid(positions[:, 1:], (side, side))
        return own


def small_vit(*, class_tokens: int = 1, drop_path: float = 0.0, **options: Unpack[Options]) -> VisionTransformer:
    """Our own transformer for 128-pixel images on a CPU, on patches of 8 pixels: from scratch it learns more than on 16."""
    size = {"img_size": 128, "patch_size": 8, "embed_dim": 64, "depth": 4, "num_heads": 4}
    return VisionTransformer(class_tokens, drop_path, options, size=size)


def deit_small(*, class_tokens: int = 1, drop_path: float = 0.0, **options: Unpack[Options]) -> VisionTransformer:
    """DeiT-S on patches of 16 pixels."""
    return VisionTransformer(class_tokens, drop_path, options, imagenet="timm:deit_small_patch16_224")


def vit_small(*, class_tokens: int = 1, drop_path: float = 0.0, **options: Unpack[Options]) -> VisionTransformer:
    """ViT-S on patches of 16 pixels; timm's weights learnt ImageNet-21k before ImageNet."""
    return VisionTransformer(class_tokens, drop_path, options, imagenet="timm:vit_small_patch16_224", half=True)


def _attended(block: Any, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What one of timm's blocks makes of tokens [B,N,C], and its attention [B,heads,N,N], which the block does not keep."""
    own = block.attn
    projected = own.qkv(block.norm1(tokens)).unflatten(2, (3, own.num_heads, own.head_dim))
    queries, keys, values = projected.permute(2, 0, 3, 1, 4)
    attention = (own.scale * queries @ keys.transpose(2, 3)).softmax(dim=3)
    tokens = tokens + block.drop_path1(own.proj((attention @ values).transpose(1, 2).flatten(2)))
    return tokens + block.drop_path2(block.mlp(block.norm2(tokens))), attention


def _on_grid(tokens: torch.Tensor, grid: Sequence[int]) -> torch.Tensor:
    """Patch tokens [B,h*w,C] as [B,C,h,w]."""
    return tokens.transpose(1, 2).unflatten(2, tuple(grid))


def _side(positions: torch.Tensor) -> int:
    """The side of the square grid that position codes [1,1+cells,C] are of, or 0; a distilled DeiT has two class tokens."""
    cells = positions.shape[1] - 1 if positions.ndim == 3 else 0
    side = math.isqrt(max(cells, 0))
    return side if side**2 == cells else 0


def _renamed(name: str) -> str:
    return name.replace("patch_embed.proj.", "patch.").replace("blocks.", "block.", 1)
