"""One transformer block for each class, as EDAM has them, over the tokens of two images together.

The block is that of BERT with its norm before each part: attention of two heads, then two linear layers with a tanh-GELU between
them. Its layer norm divides by the unbiased standard deviation + 1e-6. The weights of all blocks are stacked, so that a layer of
all classes is one product.
"""

from math import log, sqrt

import torch
from torch import nn
from torch.nn import functional

from backbones.precision import MixedPrecision

EPSILON = 1e-6  # added to the standard deviation (EDAM code)


def layer_norm(tokens: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """Tokens [K,P,T,D], each to mean 0 and unbiased standard deviation 1, then by each class's scale and shift [K,D]."""
    deviation, mean = torch.std_mean(tokens, dim=-1, keepdim=True)
    return (tokens - mean) / (deviation + EPSILON) * scale[:, None, None] + shift[:, None, None]


def linear(tokens: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Tokens [K,P,T,D] by the weights [K,E,D] and biases [K,E] of each class: [K,P,T,E]."""
    made = torch.baddbmm(bias[:, None], tokens.flatten(1, 2), weight.transpose(1, 2))
    return made.unflatten(1, tokens.shape[1:3])


def attention(tokens: torch.Tensor, heads: int, dropout: float) -> torch.Tensor:
    """Scaled dot-product attention [K,P,T,D] of queries, keys and values, side by side in tokens [K,P,T,3D]."""
    queries, keys, values = tokens.unflatten(-1, (3, heads, -1)).permute(3, 0, 1, 4, 2, 5)
    # class by class: the T x T weights of one class may stay in a cache
    every = zip(queries, keys, values, strict=True)
    found = torch.stack([functional.scaled_dot_product_attention(*one, dropout_p=dropout) for one in every])
    return found.transpose(2, 3).flatten(3)


def position_codes(count: int, width: int, like: torch.Tensor) -> torch.Tensor:
    """Sinusoidal codes [count,width] of the positions 0, 1, ...: sines in even columns, cosines in odd ones."""
    rates = torch.exp(torch.arange(0, width, 2, device=like.device) * (-log(10000.0) / width))
    angles = torch.arange(count, device=like.device)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)[:, :width].to(like.dtype)


class ClassAttention(MixedPrecision):
    """The blocks of `classes` classes for tokens of `width` numbers."""

    def __init__(self, classes: int, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        sizes = {
            "projected": (3 * width, width),
            "joined": (width, width),
            "inner": (4 * width, width),
            "outer": (width, 4 * width),
        }
        self.weights = nn.ParameterDict({name: torch.empty(classes, *size) for name, size in sizes.items()})
        self.biases = nn.ParameterDict({name: torch.empty(classes, size[0]) for name, size in sizes.items()})
        self.scales = nn.ParameterDict({part: torch.ones(classes, width) for part in ("attention", "layers")})
        self.shifts = nn.ParameterDict({part: torch.zeros(classes, width) for part in ("attention", "layers")})
        for name, (outputs, inputs) in sizes.items():
            # by Xavier's rule, for which queries, keys and values are layers of their own; biases as torch's layers have them
            bound = sqrt(6 / (inputs + (width if name == "projected" else outputs)))
            nn.init.uniform_(self.weights[name], -bound, bound)
            nn.init.uniform_(self.biases[name], -(inputs**-0.5), inputs**-0.5)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Tokens [K,P,T,D] of P pairs of images to [K,P,T,D]."""
        found = self._layer("projected", self._norm("attention", tokens))
        found = attention(found, self.heads, self.dropout if self.training else 0.0)
        tokens = tokens + self._dropped(self._layer("joined", found))
        inner = functional.gelu(self._layer("inner", self._norm("layers", tokens)), approximate="tanh")
        return self._dropped(tokens + self._dropped(self._layer("outer", self._dropped(inner))))

    def _layer(self, name: str, tokens: torch.Tensor) -> torch.Tensor:
        return linear(tokens, self.weights[name], self.biases[name])

    def _norm(self, part: str, tokens: torch.Tensor) -> torch.Tensor:
        return layer_norm(tokens, self.scales[part], self.shifts[part])

    def _dropped(self, tokens: torch.Tensor) -> torch.Tensor:
        return functional.dropout(tokens, self.dropout, self.training)
