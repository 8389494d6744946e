"""Creatures of the built-in image set: families share a body, the classes of a family differ in the head alone.

A creature is a set of signed distances over its own coordinates: u runs from tail (-1) to head (+1), v downwards, in units
of half its length. Negative is inside; a distance in pixels gives anti-aliased edges.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from imagesets.scenery import value_noise

Point = tuple[float, float]
Distance = Callable[[np.ndarray, np.ndarray], np.ndarray]
Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Family:
    """A body plan: signed distances of body and head, the head's centre and radius, coat colours and the coat's pattern."""

    body: Distance
    head: Distance
    head_centre: Point
    head_radius: float
    coats: tuple[Colour, ...]
    coat_pattern: Distance  # -1..1


@dataclass(frozen=True)
class Pose:
    """Where a creature is: centre (row, column) and length in pixels, angle in radians, looking left or right."""

    centre: Point
    length: float
    angle: float
    left: bool


def draw(canvas: np.ndarray, family: Family, head: tuple[str, Colour, Colour], pose: Pose, rng: np.random.Generator) -> np.ndarray:
    """Draw onto float32 [side,side,3] in 0..255; `head` is pattern and two colours. Returns what is covered, bool [side,side]."""
    u, v = _own_coordinates(len(canvas), pose)
    half = pose.length / 2
    body, head_distance = family.body(u, v) * half, family.head(u, v) * half
    spots = value_noise(len(canvas), 0.05, 0.05, rng)
    coat = np.asarray(family.coats[rng.integers(len(family.coats))]) + rng.normal(0, 14, 3)
    contrast = rng.uniform(0.1, 0.3)
    shade = 1 - 0.35 * v + contrast * family.coat_pattern(u, v) + 0.15 * spots
    _blend(canvas, body, coat * shade[..., None])
    p, q = (u - family.head_centre[0]) / family.head_radius, (v - family.head_centre[1]) / family.head_radius
    first, second = (np.asarray(colour) + rng.normal(0, 14, 3) for colour in head[1:])
    share = np.clip(0.5 + 1.5 * HEAD_PATTERNS[head[0]](p, q), 0, 1)[..., None]
    _blend(canvas, head_distance, (first * share + second * (1 - share)) * (1 - 0.2 * v[..., None]))
    eye = np.hypot(p - 0.25, q + 0.3) - 0.22
    _blend(canvas, np.maximum(eye * family.head_radius * half, head_distance), np.full(3, 15.0))
    return np.minimum(body, head_distance) < 0


def _own_coordinates(side: int, pose: Pose) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = np.mgrid[:side, :side].astype(np.float32)
    y, x = (rows - pose.centre[0]) / (pose.length / 2), (columns - pose.centre[1]) / (pose.length / 2)
    x = -x if pose.left else x
    cosine, sine = np.cos(pose.angle), np.sin(pose.angle)
    return x * cosine + y * sine, y * cosine - x * sine


def _blend(canvas: np.ndarray, distance: np.ndarray, colour: np.ndarray) -> None:
    cover = np.clip(0.5 - distance, 0, 1)[..., None]
    canvas += cover * (colour - canvas)


def ellipse(u: np.ndarray, v: np.ndarray, centre: Point, radii: Point) -> np.ndarray:
    """Distance to an ellipse, exact on its outline and for circles."""
    return (np.hypot((u - centre[0]) / radii[0], (v - centre[1]) / radii[1]) - 1) * min(radii)


def capsule(u: np.ndarray, v: np.ndarray, start: Point, end: Point, radius: float) -> np.ndarray:
    """Distance to a line segment, thickened by `radius`."""
    along_u, along_v = end[0] - start[0], end[1] - start[1]
    share = np.clip(((u - start[0]) * along_u + (v - start[1]) * along_v) / (along_u**2 + along_v**2), 0, 1)
    return np.hypot(u - start[0] - share * along_u, v - start[1] - share * along_v) - radius


def polygon(u: np.ndarray, v: np.ndarray, corners: list[Point]) -> np.ndarray:
    """Distance bound to a convex polygon, corners in clockwise order as seen on the screen."""
    edges = []
    for (u0, v0), (u1, v1) in zip(corners, corners[1:] + corners[:1], strict=True):
        edges.append(((u - u0) * (v1 - v0) - (v - v0) * (u1 - u0)) / np.hypot(u1 - u0, v1 - v0))
    return np.max(edges, axis=0)


def union(*distances: np.ndarray) -> np.ndarray:
    """Distance to everything covered by any of the shapes."""
    return np.min(distances, axis=0)


def _fish_outline(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return ellipse(u, v, (0.2, 0), (0.78, 0.36))


def _fish_body(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    tail = polygon(u, v, [(-0.4, 0.0), (-1.0, 0.4), (-1.0, -0.4)])
    fin = polygon(u, v, [(-0.2, -0.3), (-0.12, -0.56), (0.35, -0.3)])
    return union(_fish_outline(u, v), tail, fin)


def _fish_head(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.maximum(_fish_outline(u, v), 0.5 - u + 0.3 * v**2)


def _bird_body(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    tail = polygon(u, v, [(-0.35, -0.1), (-0.35, 0.2), (-1.0, 0.42), (-1.0, 0.2)])
    legs = [capsule(u, v, (x, 0.3), (x + 0.05, 0.72), 0.035) for x in (-0.02, 0.16)]
    return union(ellipse(u, v, (0.0, 0.06), (0.56, 0.36)), capsule(u, v, (0.2, -0.05), (0.5, -0.3), 0.2), tail, *legs)


def _bird_head(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    beak = polygon(u, v, [(0.7, -0.46), (1.0, -0.3), (0.7, -0.24)])
    return union(ellipse(u, v, (0.55, -0.34), (0.25, 0.25)), beak)


def _goat_body(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    legs = [capsule(u, v, (x, 0.1), (x + lean, 0.72), 0.075) for x, lean in ((-0.6, -0.06), (-0.4, 0.04), (0.15, -0.03), (0.33, 0.06))]
    trunk = capsule(u, v, (-0.45, 0.0), (0.2, 0.0), 0.29)
    neck = capsule(u, v, (0.3, -0.1), (0.58, -0.38), 0.15)
    return union(trunk, neck, capsule(u, v, (-0.7, -0.12), (-0.88, 0.15), 0.05), *legs)


def _goat_head(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    horn = capsule(u, v, (0.56, -0.55), (0.42, -0.82), 0.055)
    return union(capsule(u, v, (0.62, -0.46), (0.84, -0.32), 0.17), horn)


FAMILIES = {
    "fish": Family(
        _fish_body, _fish_head, (0.72, 0.0), 0.3, ((150, 150, 140), (120, 128, 96), (168, 140, 110)),
        lambda u, v: np.sin(26 * u + 3 * np.cos(24 * v)),
    ),
    "bird": Family(
        _bird_body, _bird_head, (0.55, -0.34), 0.26, ((120, 100, 80), (96, 96, 100), (150, 128, 96)),
        lambda u, v: np.where(ellipse(u, v, (-0.12, 0.02), (0.4, 0.22)) < 0, np.sin(18 * v + 10 * u) - 1, 0.5),
    ),
    "goat": Family(
        _goat_body, _goat_head, (0.7, -0.42), 0.28, ((140, 120, 96), (108, 88, 70), (176, 164, 146)),
        lambda u, v: np.sin(9 * u + 2 * np.sin(7 * v)) * np.cos(8 * v),
    ),
}  # fmt: skip

HEAD_PATTERNS: dict[str, Distance] = {
    "bars": lambda p, q: np.sin(5.5 * p),
    "rings": lambda p, q: np.cos(6 * np.hypot(p, q)),
    "checks": lambda p, q: 2 * np.sin(4.5 * p) * np.sin(4.5 * q),
    "halves": lambda p, q: 3 * (q + 0.1),
    "waves": lambda p, q: np.sin(5 * q + 1.5 * np.sin(4 * p)),
    "spots": lambda p, q: 0.6 - 2 * np.sin(5 * p + 0.8) * np.sin(5 * q + 0.8),
}
