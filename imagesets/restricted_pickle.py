"""Pickled arrays read without running anything that the pickle names: plain containers, numpy arrays, torch tensors.

A pickle may name any function of the machine and have it called. Here a name is only ever looked up in `ADMITTED`, whose
entries stand in for the few that pickled arrays consist of. They take no state that would change them, and they check
what numpy's own would trust: a crafted dtype can make numpy take bytes for addresses.
"""

import io
import pickle
from collections.abc import Callable
from typing import IO, Any

import numpy as np
import torch

NUMBERS = frozenset({"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"})
OBJECT = "O8"  # the dtype of the array that np.save puts around a dictionary


class Refused(ValueError):
    """The pickle holds something else than plain containers, arrays and tensors; the message says what."""


def load(file: IO[bytes]) -> Any:
    """The containers, arrays and CPU tensors of a pickle; an array without axes counts as what is in it.

    Raises Refused for a name that is not admitted, and whatever a broken pickle leads to for one.
    """
    return _content(_Unpickler(file, encoding="latin1").load())


class _Named:
    """What a pickle gets for a name: callable, and closed to the state that a pickle may set on any object."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self.call = call

    def __call__(self, *arguments: Any) -> Any:
        return self.call(*arguments)

    def __setstate__(self, state: object) -> None:
        raise Refused("a state for a function")


class _DType:
    """Stands for a numpy.dtype."""

    def __init__(self, code: object, *_: object) -> None:
        if code not in NUMBERS | {OBJECT}:
            raise Refused(f"an array of dtype {code!r}")
        self.code, self.order = str(code), "="

    def __setstate__(self, state: tuple) -> None:
        self.order = {"<": "<", ">": ">", "|": "="}[state[1]]


class _Array:
    """Stands for a numpy.ndarray until its state, and with it its content, is known."""

    content: Any = None

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, is_fortran, raw = state
        if not isinstance(dtype, _DType) or (dtype.code == OBJECT and shape != ()):
            raise Refused("an array of objects")
        if dtype.code == OBJECT:
            (self.content,) = raw
        else:
            flat = np.frombuffer(raw, np.dtype(dtype.order + dtype.code))
            self.content = flat.reshape(shape, order="F" if is_fortran else "C")


def _content(loaded: Any) -> Any:
    """What the stand-ins in plain containers stand for."""
    if isinstance(loaded, _Array):
        return _content(loaded.content)
    if isinstance(loaded, dict):
        return {key: _content(value) for key, value in loaded.items()}
    return [_content(value) for value in loaded] if isinstance(loaded, list | tuple) else loaded


def _storage(content: bytes) -> torch.Tensor:
    """All numbers of a pickled torch storage, flat."""
    storage = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    return torch.empty(0, dtype=storage.dtype).set_(storage)


def _tensor(flat: torch.Tensor, offset: int, size: tuple, stride: tuple, *_: object) -> torch.Tensor:
    # as_strided checks the bounds; strides of 0 it allows, and a few bytes would unfold to any size
    if 0 in stride:
        raise Refused("a tensor that repeats its numbers")
    return flat.as_strided(size, stride, offset)


def _text_as_bytes(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise Refused(f"text in the encoding {encoding}")
    return text.encode("latin1")


ADMITTED: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _DType,
    ("numpy.core.multiarray", "_reconstruct"): _Array,  # numpy 1
    ("numpy._core.multiarray", "_reconstruct"): _Array,  # numpy 2
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch.storage", "_load_from_bytes"): _storage,
    ("collections", "OrderedDict"): dict,  # a tensor's hooks, of which it has none
    ("_codecs", "encode"): _text_as_bytes,  # how protocol 2 writes bytes
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ADMITTED:
            raise Refused(f"{module}.{name}")
        return _Named(ADMITTED[module, name])
