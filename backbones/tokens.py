"""What a transformer backbone offers beside its taps: class tokens, patch tokens and attention of chosen blocks."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch

from backbones.backbone import Backbone


class Tokens(NamedTuple):
    """The output of one block for a batch: its n class tokens, its patch tokens on their grid, and its attention.

    `classes` is [B,n,C], `patches` [B,C,h,w]. `attention` [B,heads,N,N] holds the softmax over all tokens for each of
    the N = n + h*w tokens (class tokens first, then patches row by row).
    """

    classes: torch.Tensor
    patches: torch.Tensor
    attention: torch.Tensor


class TokenBackbone(Backbone):
    """A backbone whose recipe provides `tokens`; its architecture takes the number of class tokens, `class_tokens`."""

    blocks: int

    def tokens(self, images: torch.Tensor, blocks: Sequence[int]) -> list[Tokens]:
        """The tokens of the chosen blocks (0-based, in any order) of normalised images [B,3,H,W] of any size.

        An attention takes B * heads * N^2 numbers, so choose only blocks that are needed.
        """
        return self.computed(self._tokens, images, blocks)

    @abstractmethod
    def _tokens(self, images: torch.Tensor, blocks: Sequence[int]) -> list[Tokens]:
        """What `tokens` returns, computed."""
