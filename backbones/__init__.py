"""Feature extractors with one interface: feature maps at known strides, and the tokens of those that have some."""

from backbones.backbone import Backbone
from backbones.build import build
from backbones.tokens import TokenBackbone, Tokens

__all__ = ["Backbone", "TokenBackbone", "Tokens", "build"]
