"""Drawing the creatures of the built-in image set into a scene."""

from dataclasses import dataclass

import numpy as np

from imagesets.drawing.body_plans import FACES, FAMILIES, Colour, Family, Point
from imagesets.drawing.scenery import value_noise


@dataclass(frozen=True)
class Look:
    """What a class looks like: its family, and the pattern and two colours of its face, which distinguish it."""

    family: str
    face: str
    colours: tuple[Colour, Colour]


@dataclass(frozen=True)
class Pose:
    """Where a creature is: centre (row, column) and length in pixels, angle in radians, looking left or right."""

    centre: Point
    length: float
    angle: float
    left: bool


def draw(canvas: np.ndarray, objects: np.ndarray, number: int, look: Look, pose: Pose, rng: np.random.Generator) -> None:
    """Draw one creature onto `canvas`, float32 [side,side,3] in 0..255, and write its `number` into `objects` [side,side]."""
    window = _window(len(canvas), pose)
    u, v = _own_coordinates(window, pose)
    patch, family, half = canvas[window], FAMILIES[look.family], pose.length / 2
    body, head = family.body(u, v) * half, family.head(u, v) * half
    _blend(patch, body, _coat(family, u, v, rng))
    p, q = (u - family.face_centre[0]) / family.face_radius, (v - family.face_centre[1]) / family.face_radius
    _blend(patch, head, _face(look, p, q, rng) * (1 - 0.2 * v[..., None]))
    eye = (np.hypot(p - 0.25, q + 0.3) - 0.22) * family.face_radius * half
    _blend(patch, np.maximum(eye, head), np.full(3, 15.0))
    objects[window][np.minimum(body, head) < 0] = number


def _coat(family: Family, u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    # both classes of a family draw from the same colours, so the body says nothing about the class
    colour = np.asarray(family.coats[rng.integers(len(family.coats))]) * rng.uniform(0.8, 1.2) + rng.normal(0, 7, 3)
    spots = value_noise(u.shape, 9, 9, rng)
    return colour * (1 - 0.35 * v + rng.uniform(0.1, 0.3) * family.coat_pattern(u, v) + 0.12 * spots)[..., None]


def _face(look: Look, p: np.ndarray, q: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    first, second = (np.asarray(colour) + rng.normal(0, 12, 3) for colour in look.colours)
    share = np.clip(0.5 + 1.5 * FACES[look.face](p, q), 0, 1)[..., None]
    return first * share + second * (1 - share)


def _window(side: int, pose: Pose) -> tuple[slice, slice]:
    reach = 0.7 * pose.length  # covers every corner of a body plan at any angle
    first, last = ([int(np.clip(at + sign * reach, 0, side)) for at in pose.centre] for sign in (-1, 1))
    return slice(first[0], last[0]), slice(first[1], last[1])


def _own_coordinates(window: tuple[slice, slice], pose: Pose) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = np.mgrid[window].astype(np.float32)
    y, x = (rows - pose.centre[0]) / (pose.length / 2), (columns - pose.centre[1]) / (pose.length / 2)
    x = -x if pose.left else x
    cosine, sine = np.cos(pose.angle), np.sin(pose.angle)
    return x * cosine + y * sine, y * cosine - x * sine


def _blend(canvas: np.ndarray, distance: np.ndarray, colour: np.ndarray) -> None:
    cover = np.clip(0.5 - distance, 0, 1)[..., None]
    canvas += cover * (colour - canvas)
