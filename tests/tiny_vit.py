"""A vision transformer of two blocks (Dosovitskiy et al., ICLR 2021): what the interface of backbones must fit, at test size."""

from collections.abc import Sequence
from typing import Unpack

import torch
from torch import nn
from torch.nn import functional

from backbones import TokenBackbone, Tokens
from backbones.backbone import Options
from backbones.state import State

WIDTH, HEADS, PATCH, GRID = 16, 2, 16, 4  # channels; attention heads; pixels; cells a side that positions are learnt for
BLOCK = {  # torchvision's names of a block's modules -> ours
    "ln_1.": "before.",
    "self_attention.in_proj_": "attention.",
    "self_attention.out_proj.": "joined.",
    "ln_2.": "after.",
    "mlp.0.": "mlp.0.",
    "mlp.3.": "mlp.2.",
}


class Block(nn.Module):
    """Tokens [B,N,C] to tokens and their attention [B,heads,N,N]."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.after = nn.LayerNorm(WIDTH, eps=1e-6), nn.LayerNorm(WIDTH, eps=1e-6)
        self.attention, self.joined = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH))

    def forward(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        projected = self.attention(self.before(tokens)).unflatten(2, (3, HEADS, WIDTH // HEADS))
        queries, keys, values = projected.permute(2, 0, 3, 1, 4)
        attention = (queries @ keys.transpose(2, 3) / (WIDTH // HEADS) ** 0.5).softmax(dim=3)
        tokens = tokens + self.joined((attention @ values).transpose(1, 2).flatten(2))
        return tokens + self.mlp(self.after(tokens)), attention


class TinyViT(TokenBackbone):
    """Two taps, the patch tokens of either block; images are filled up with 0 to whole patches."""

    channels, strides, output_strides, blocks = (WIDTH, WIDTH), (PATCH, PATCH), (PATCH,), 2

    def __init__(self, class_tokens: int, frozen_statistics: bool) -> None:
        super().__init__(frozen_statistics)
        self.patch = nn.Conv2d(3, WIDTH, PATCH, PATCH)
        self.class_tokens = nn.Parameter(torch.randn(1, class_tokens, WIDTH) / 50)
        self.class_positions = nn.Parameter(torch.randn(1, class_tokens, WIDTH) / 50)
        self.positions = nn.Parameter(torch.randn(1, WIDTH, GRID, GRID) / 50)
        self.block = nn.ModuleList(Block() for _ in range(self.blocks))
        self.norm = nn.LayerNorm(WIDTH, eps=1e-6)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        first, last = self.tokens(images, (0, 1))
        return first.patches, self.norm(last.patches.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    def _tokens(self, images: torch.Tensor, blocks: Sequence[int]) -> list[Tokens]:
        height, width = images.shape[2:]
        patches = self.patch(functional.pad(images, (0, -width % PATCH, 0, -height % PATCH)))
        size = patches.shape[2:]
        patches = patches + functional.interpolate(self.positions, size=size, mode="bicubic", align_corners=False)
        classes = (self.class_tokens + self.class_positions).expand(len(images), -1, -1)
        found, tokens = [], torch.cat([classes, patches.flatten(2).transpose(1, 2)], dim=1)
        for block in self.block:
            tokens, attention = block(tokens)
            own, rest = tokens.split([classes.shape[1], tokens.shape[1] - classes.shape[1]], dim=1)
            found.append(Tokens(own, rest.transpose(1, 2).unflatten(2, size), attention))
        return [found[number] for number in blocks]

    def parts(self) -> dict[str, Sequence[nn.Module | nn.Parameter]]:
        stem = [self.patch, self.class_tokens, self.class_positions, self.positions]
        return {"stem": stem, "block1": [self.block[0]], "block2": [self.block[1], self.norm]}

    def renamed(self, state: State) -> State:
        """From torchvision's names. Its one class token and position stand for each of ours (MCTformer)."""
        if "class_token" not in state:
            return super().renamed(state)
        own = {}
        for name, value in super().renamed(state).items():
            for theirs, ours in {
                "conv_proj.": "patch.",
                "encoder.ln.": "norm.",
                "encoder.layers.encoder_layer_": "block.",
            }.items():
                name = name.replace(theirs, ours)
            for theirs, ours in BLOCK.items():
                name = name.replace(f".{theirs}", f".{ours}")
            own[name] = value
        positions = own.pop("encoder.pos_embedding")
        count = self.class_tokens.shape[1]
        own["class_tokens"] = own.pop("class_token").expand(1, count, -1)
        own["class_positions"] = positions[:, :1].expand(1, count, -1)
        own["positions"] = positions[:, 1:].transpose(1, 2).unflatten(2, (GRID, GRID))
        return own


def tiny_vit(*, class_tokens: int = 1, **options: Unpack[Options]) -> TinyViT:
    """Two blocks of 16 channels and two heads on patches of 16 pixels."""
    return TinyViT(class_tokens, options["frozen_statistics"])
