"""Body plans of the creatures of the built-in image set: the outlines of three families, and the faces of the classes.

Outlines are signed distances, negative inside, over a creature's own coordinates: u runs from tail (-1) to head (+1), v
downwards, in units of half its length. The classes of a family share the body and differ in the face alone.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Point = tuple[float, float]
Colour = tuple[int, int, int]
Field = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Family:
    """A body plan: signed distances of body and head, the centre and radius of the face, coat colours and the coat's pattern."""

    body: Field
    head: Field
    face_centre: Point
    face_radius: float
    coats: tuple[Colour, ...]
    coat_pattern: Field  # in -1..1


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
    return np.maximum(_fish_outline(u, v), 0.36 - u + 0.3 * v**2)


def _bird_body(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    tail = polygon(u, v, [(-0.35, -0.1), (-0.35, 0.2), (-1.0, 0.42), (-1.0, 0.2)])
    legs = [capsule(u, v, (x, 0.3), (x + 0.05, 0.72), 0.035) for x in (-0.02, 0.16)]
    return union(ellipse(u, v, (0.0, 0.06), (0.56, 0.36)), capsule(u, v, (0.2, -0.05), (0.5, -0.3), 0.2), tail, *legs)


def _bird_head(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    beak = polygon(u, v, [(0.7, -0.46), (1.0, -0.3), (0.7, -0.24)])
    return union(ellipse(u, v, (0.52, -0.32), (0.29, 0.29)), beak)


def _goat_body(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    legs = [
        capsule(u, v, (x, 0.1), (x + lean, 0.72), 0.075) for x, lean in ((-0.6, -0.06), (-0.4, 0.04), (0.15, -0.03), (0.33, 0.06))
    ]
    trunk = capsule(u, v, (-0.42, 0.0), (0.22, 0.0), 0.32)
    neck = capsule(u, v, (0.3, -0.1), (0.5, -0.32), 0.2)
    return union(trunk, neck, capsule(u, v, (-0.7, -0.12), (-0.88, 0.15), 0.05), *legs)


def _goat_head(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    horn = capsule(u, v, (0.5, -0.5), (0.36, -0.8), 0.06)
    return union(capsule(u, v, (0.54, -0.4), (0.78, -0.26), 0.21), horn)


FAMILIES = {
    "fish": Family(
        _fish_body, _fish_head, (0.66, 0.0), 0.36, ((150, 150, 140), (120, 128, 96), (168, 140, 110)),
        lambda u, v: np.sin(26 * u + 3 * np.cos(24 * v)),
    ),
    "bird": Family(
        _bird_body, _bird_head, (0.52, -0.32), 0.3, ((120, 100, 80), (96, 96, 100), (150, 128, 96)),
        lambda u, v: np.where(ellipse(u, v, (-0.12, 0.02), (0.4, 0.22)) < 0, np.sin(18 * v + 10 * u) - 1, 0.5),
    ),
    "goat": Family(
        _goat_body, _goat_head, (0.64, -0.36), 0.32, ((140, 120, 96), (108, 88, 70), (176, 164, 146)),
        lambda u, v: np.sin(9 * u + 2 * np.sin(7 * v)) * np.cos(8 * v),
    ),
}  # fmt: skip

# patterns over the face's own coordinates, in units of its radius: positive shows the first colour, negative the second
FACES: dict[str, Field] = {
    "bars": lambda p, q: 0.3 + np.sin(6.5 * p),
    "rings": lambda p, q: 0.3 + np.cos(7 * np.hypot(p, q) - 2.5),
    "checks": lambda p, q: 2 * np.sin(4.5 * p) * np.sin(4.5 * q),
    "halves": lambda p, q: 3 * (q + 0.1),
    "waves": lambda p, q: np.sin(5 * q + 1.5 * np.sin(4 * p)),
    "spots": lambda p, q: 0.6 - 2 * np.sin(5 * p + 0.8) * np.sin(5 * q + 0.8),
}
