"""A network that is only read, made quick."""

import torch
from torch import nn

from backbones.backbone import Backbone
from backbones.folding import fold_batch_norms
from backbones.layout import move
from backbones.precision import compute_in
from backbones.quickening import quicken


def for_extraction(network: nn.Module, precision: str, device: torch.device) -> nn.Module:
    """The network on `device`, with batch norms folded into convolutions, computing in `precision`."""
    fold_batch_norms(network)
    quicken(network)
    compute_in(network, precision)
    for module in network.modules():
        if isinstance(module, Backbone):
            module.keep_weights()
    return move(network, device)
