"""Reads pickled arrays; code in pickles never runs. Admitted are plain containers, numpy arrays, torch tensors.

A pickle may name any function of the machine and call it. Here a name is only looked up in `ADMITTED`. Its
entries replace the few names that pickled arrays need. They accept no state that would change them, and they check
what numpy trusts: a forged dtype can make numpy take bytes for addresses.
"""

import io
import pickle
from collections.abc import Callable
from math import prod
from typing import IO, Any

import numpy as np
import torch

NUMBERS = frozenset({"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"})
OBJECT = "O8"  # np.save puts a dictionary into an array of this dtype


class Refused(ValueError):
    """The pickle holds something other than plain containers, arrays and tensors; the message says what."""


def load(file: IO[bytes]) -> Any:
    """The containers, arrays and CPU tensors of a pickle; an array without axes becomes its content.

    Raises Refused for a name that is not admitted; a broken pickle may raise any error.
    """
    return _content(_Unpickler(file, encoding="latin1").load())


class _Named:
    """A pickle gets this for a name. It can be called, and it refuses the state that a pickle may set on any object."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self.call = call

    def __call__(self, *arguments: Any) -> Any:
        return self.call(*arguments)

    def __setstate__(self, state: object) -> None:
        raise Refused("a state for a function")


class _DType:
    """Replaces a numpy.dtype."""

    def __init__(self, code: object, *_: object) -> None:
        if code not in NUMBERS | {OBJECT}:
            raise Refused(f"an array of dtype {code!r}")
        self.code, self.order = str(code), "="

    def __setstate__(self, state: tuple) -> None:
        self.order = {"<": "<", ">": ">", "|": "="}[state[1]]


class _Array:
    """Replaces a numpy.ndarray until its state, which holds its content, is known."""

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
    """Plain containers with the real content for each replacement."""
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
    # as_strided checks the bounds, but with strides that overlap a few bytes could become a tensor of any size
    if prod(size) > flat.numel():
        raise Refused("a tensor larger than its storage")
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
    ("collections", "OrderedDict"): dict,  # a tensor's hooks; there are none
    ("_codecs", "encode"): _text_as_bytes,  # protocol 2 writes bytes like this
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ADMITTED:
            raise Refused(f"{module}.{name}")
        return _Named(ADMITTED[module, name])
