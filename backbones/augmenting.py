"""Random changes of training images by timm (Touvron et al., DeiT, ICML 2021) and torchvision, from a generator of their own."""

import importlib
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from PIL import Image

import backbones.vision_models  # noqa: F401 - timm needs torchvision as well, which only this import loads beside any torch


@dataclass(frozen=True)
class Augmentation:
    """Makes a normalised square float32 [3,side,side] of an RGB image uint8 [H,W,3].

    A window whose share of the image lies within `area` is resized (bicubic), half of them are mirrored, `policy` in timm's words
    changes colours and shape ("none": a colour jitter of 0.4), and in a share `erasing` of them a rectangle becomes noise.
    """

    side: int
    area: tuple[float, float]
    policy: str
    erasing: float

    def __call__(self, rgb: np.ndarray, rng: np.random.Generator) -> torch.Tensor:
        with _seeded(int(rng.integers(2**31))):
            return _transform(self)(Image.fromarray(rgb))


def rand_augmented(rgb: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An image uint8 [H,W,3] after torchvision's RandAugment at its defaults (Cubuk et al., NeurIPS 2020)."""
    with _seeded(int(rng.integers(2**31))):
        return np.asarray(_rand_augment()(Image.fromarray(rgb)))


@cache
def _rand_augment() -> Callable[[Image.Image], Image.Image]:
    return importlib.import_module("torchvision.transforms").RandAugment()  # type: ignore[no-any-return]


@cache
def _transform(given: Augmentation) -> Callable[[Image.Image], Any]:
    """timm's transform, which draws from the generators of Python, NumPy and torch."""
    return importlib.import_module("timm.data").create_transform(
        given.side,
        is_training=True,
        scale=given.area,
        color_jitter=0.4,
        auto_augment=None if given.policy == "none" else given.policy,
        interpolation="bicubic",
        re_prob=given.erasing,
        re_mode="pixel",
    )


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """In the block all global generators are seeded; afterwards they are as they were."""
    kept, kept_numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)
        try:
            yield
        finally:
            random.setstate(kept)
            np.random.set_state(kept_numpy)
