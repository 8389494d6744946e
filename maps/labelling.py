"""Maps to a label map: every pixel gets the class of its highest map, or background if no map exceeds the background score.

The CAM family makes seeds like this (IRN, ReCAM and LPCAM code): argmax over [threshold, maps], mapped to class index + 1. The
background score is a constant threshold, or the method's own background map. Values are compared in float32.
"""

import numpy as np
import torch

Planes = np.ndarray | torch.Tensor
Background = float | Planes  # a constant threshold, or a map [H,W]; a class must exceed it


def highest(maps: Planes) -> tuple[np.ndarray, np.ndarray]:
    """The highest of maps [n,H,W] at each pixel and its index, the first of equal ones; minus infinity and 0 where n = 0."""
    # map by map: up to several times faster than max and argmax across the first axis
    value = np.full(maps.shape[1:], -np.inf, np.float32)
    winner = np.zeros(maps.shape[1:], np.uint8)
    for index, candidate in enumerate(np.asarray(maps, np.float32)):
        winner[candidate > value] = index
        np.maximum(value, candidate, out=value)
    return value, winner


def winners(maps: Planes, background: Background) -> np.ndarray:
    """Which of maps [n,H,W] is highest: uint8 [H,W] of 0 (none exceeds `background`; ties go to it too) or 1..n."""
    value, winner = highest(maps)
    return np.where(value > np.asarray(background, np.float32), winner + np.uint8(1), np.uint8(0))


def to_labels(chosen: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Map 0..n of `winners` to label values: 0 stays background, j becomes keys[j - 1] + 1; uint8."""
    return np.concatenate([[0], np.asarray(keys) + 1]).astype(np.uint8)[chosen]


def label_map(maps: Planes, keys: np.ndarray, background: Background) -> np.ndarray:
    """Maps [n,H,W] of the classes `keys` [n] to a label map uint8 [H,W]: 0 background, class index + 1."""
    return to_labels(winners(maps, background), keys)
