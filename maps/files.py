"""Maps of other programs, one file an image: IRN's .npy dictionaries, or .npz files with the same names.

`keys` [n] 0-based class indices, `cam` [n,ceil(H/4),ceil(W/4)] and `high_res` [n,H,W], each map between 0 and 1.
"""

import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from imagesets import restricted_pickle
from imagesets.errors import WrongInput
from maps.grids import strided
from maps.maps import Maps
from maps.reading import as_they_are

NAMES = ("keys", "cam", "high_res")
SUFFIXES = (".npy", ".npz")
ROUNDING = 1e-3  # values may lie this far outside 0..1, as those of half precision do
CONVERT = f"save the arrays {', '.join(NAMES)} with np.savez as .npz"


def read_maps(path: Path) -> Maps:
    """The maps of one file, clipped to 0..1. Raises WrongInput if the file cannot be read safely or has another form."""
    maps = unclipped(path)
    return replace(maps, grids=tuple(grid.clip(0, 1) for grid in maps.grids))


def unclipped(path: Path) -> Maps:
    """The maps of one file with the values as they are. Raises WrongInput as `read_maps` does."""
    found = _arrays(path)
    if missing := [name for name in NAMES if name not in found]:
        raise WrongInput(f"{path} has no {' and no '.join(missing)}; a file of maps holds {', '.join(NAMES)}")
    try:
        keys, cam, high_res = (np.asarray(found[name]) for name in NAMES)
        keys = keys.astype(np.int64, casting="same_kind") if keys.size else np.zeros(0, np.int64)
        cam, high_res = (maps.astype(np.float32, casting="same_kind") for maps in (cam, high_res))
    except (TypeError, ValueError):
        raise WrongInput(f"{path} must hold whole numbers as keys, and arrays of numbers as cam and high_res") from None
    size = high_res.shape[1:]
    if keys.ndim != 1 or high_res.ndim != 3 or high_res.shape[0] != len(keys) or cam.shape != (len(keys), *strided(size)):
        shapes = f"keys {_shape(keys)}, cam {_shape(cam)} and high_res {_shape(high_res)}"
        raise WrongInput(f"{path} holds {shapes}; n keys go with high_res [n,H,W] and cam [n,H/4,W/4], rounded up")
    return Maps(keys, size, (cam, high_res), read=as_they_are)


def map_problems(path: Path, maps: Maps, size: tuple[int, int] | None, classes: int) -> list[str]:
    """What is wrong with the unclipped maps of one file for an image of `size` (H,W; None if unknown) and these classes."""
    problems = []
    if outside := [int(key) for key in maps.keys if not 0 <= key < classes]:
        problems.append(f"{path} has maps of the classes {outside}; the keys of {classes} classes are 0 to {classes - 1}")
    if len(set(maps.keys.tolist())) < len(maps.keys):
        problems.append(f"{path} has several maps of one class; each key must occur once")
    if size and size != maps.size:
        problems.append(f"{path} has maps of {_sides(maps.size)} but its image is {_sides(size)}; sizes must be equal")
    values = np.concatenate([grid.ravel() for grid in maps.grids])
    if not np.isfinite(values).all():
        problems.append(f"{path} holds values that are not finite; a map lies between 0 and 1")
    elif values.size and (values.min() < -ROUNDING or values.max() > 1 + ROUNDING):
        problems.append(f"{path} holds values from {values.min():.3g} to {values.max():.3g}; a map lies between 0 and 1")
    return problems


def _arrays(path: Path) -> dict[str, Any]:
    """The arrays of a file by name; no code in the file is run."""
    try:
        if path.suffix.lower() == ".npz":
            with np.load(path, allow_pickle=False) as file:
                return {name: file[name] for name in NAMES if name in file.files}
        found = _dictionary(path)
    except restricted_pickle.Refused as error:
        raise WrongInput(f"{path} holds {error}, which is unsafe in a pickle; {CONVERT}") from None
    except (OSError, zipfile.BadZipFile):
        raise WrongInput(f"{path} cannot be read: it is damaged or no {path.suffix} file") from None
    except Exception as error:  # a broken pickle can make its reader raise anything
        raise WrongInput(f"{path} cannot be read safely ({type(error).__name__}); {CONVERT}") from None
    if not isinstance(found, dict):
        raise WrongInput(f"{path} does not hold a dictionary of {', '.join(NAMES)}; {CONVERT}")
    return found


def _dictionary(path: Path) -> Any:
    """The one object in a .npy file, or None where it holds an ordinary array."""
    with path.open("rb") as file:
        readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
        shape, _, dtype = readers[npy.read_magic(file)](file)
        return restricted_pickle.load(file) if dtype.hasobject and shape == () else None


def _shape(array: np.ndarray) -> list[int]:
    return list(array.shape)


def _sides(size: tuple[int, ...]) -> str:
    return f"{size[1]}x{size[0]}"
