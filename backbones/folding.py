"""Batch norms with fixed statistics, folded into the convolutions before them: equal within rounding, and a pass less."""

from itertools import pairwise

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fold_batch_norms(network: nn.Module) -> None:
    """Fold each batch norm of a network in evaluation mode into the convolution that its parent names just before it.

    It changes the names of parameters, so it is for networks that are only read. A network whose forward pass has another
    order than its modules must not be folded; a contract test compares every backbone with its folded form.
    """
    for parent in network.modules():
        for (name, convolution), (norm_name, norm) in pairwise(list(parent.named_children())):
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d) and norm.track_running_stats:
                setattr(parent, name, fuse_conv_bn_eval(convolution, norm))
                setattr(parent, norm_name, getattr(norm, "act", nn.Identity()))  # timm's norms hold the activation after them
