"""Backgrounds of the built-in image set: one texture per context, from value noise between two colours."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

Octave = tuple[int, int, float]  # random values down and across the image, and amplitude


@dataclass(frozen=True)
class Context:
    """A kind of place: noise octaves decide between its `dark` and its `light` colour; `ridged` noise makes cracks."""

    dark: tuple[int, int, int]
    light: tuple[int, int, int]
    octaves: tuple[Octave, ...]
    ridged: bool = False


CONTEXTS = {
    "sea": Context((18, 62, 108), (84, 150, 176), ((32, 4, 0.8), (5, 3, 0.5))),
    "riverbed": Context((92, 78, 52), (188, 168, 128), ((14, 11, 0.8), (50, 50, 0.5))),
    "foliage": Context((16, 42, 18), (98, 140, 62), ((8, 8, 0.6), (20, 20, 0.7))),
    "sky": Context((104, 152, 208), (232, 236, 240), ((5, 3, 0.8), (10, 6, 0.4))),
    "rock": Context((58, 56, 56), (158, 152, 144), ((5, 5, 1.0), (32, 32, 0.4)), ridged=True),
    "meadow": Context((70, 104, 34), (172, 184, 84), ((8, 60, 0.8), (3, 3, 0.4))),
}


def paint(context: Context, side: int, rng: np.random.Generator) -> np.ndarray:
    """A background as float32 [side,side,3] in 0..255, lit from a random direction, with a few coloured specks."""
    texture = sum(amplitude * value_noise((side, side), down, across, rng) for down, across, amplitude in context.octaves)
    if context.ridged:
        texture = 1 - 2.5 * np.abs(texture)
    share = np.clip(0.5 + 0.6 * texture, 0, 1)[..., None]
    dark, light = (np.asarray(colour) + rng.normal(0, 9, 3) for colour in (context.dark, context.light))
    canvas = dark * (1 - share) + light * share
    direction = rng.uniform(0, 2 * np.pi)
    rows, columns = np.mgrid[-0.5 : 0.5 : side * 1j, -0.5 : 0.5 : side * 1j]
    light_falloff = 1 + rng.uniform(0.1, 0.35) * (np.cos(direction) * columns + np.sin(direction) * rows)
    canvas = (canvas * light_falloff[..., None]).astype(np.float32)
    _scatter(canvas, rng)
    return canvas


def value_noise(shape: tuple[int, ...], down: int, across: int, rng: np.random.Generator) -> np.ndarray:
    """Smooth noise in about -1..1, float32 of `shape` [h,w]: `down` x `across` random values, enlarged bicubically."""
    grid = rng.uniform(-1, 1, (down, across)).astype(np.float32)
    return np.asarray(Image.fromarray(grid).resize((shape[1], shape[0]), Image.Resampling.BICUBIC))


def _scatter(canvas: np.ndarray, rng: np.random.Generator) -> None:
    # petals and pebbles in any colour mislead a network that looks only for a colour
    side = len(canvas)
    for _ in range(rng.integers(1, 6)):
        row, column = rng.integers(0, side, 2)
        radius = max(1.0, rng.uniform(0.008, 0.025) * side)
        reach = int(radius) + 2
        top, left = max(0, row - reach), max(0, column - reach)
        patch = canvas[top : row + reach, left : column + reach]
        y, x = np.ogrid[top : top + patch.shape[0], left : left + patch.shape[1]]
        cover = np.clip(radius + 0.5 - np.hypot(y - row, x - column), 0, 1)[..., None]
        patch += cover * (rng.uniform(20, 240, 3) - patch)
