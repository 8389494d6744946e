"""Feature extractors with one interface: five feature maps from an image, torchvision's state-dict names."""

from backbones.backbone import Backbone
from backbones.build import build
from backbones.weights import weights_digest

__all__ = ["Backbone", "build", "weights_digest"]
