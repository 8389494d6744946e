"""Reads weights that MXNet saved (`.params`), without MXNet: named arrays of float32.

The authors' ResNet-38 weights are such a file. Its numbers are little-endian; the versions of MXNet have three layouts:

    file:  magic u64 = 0x112, 0 u64; count u64, arrays; count u64, names
    name:  length u64, bytes
    array: sides, device 2 x i32, kind of number i32 (0 is float32), the numbers
    sides: until 0.10    count u32, each u32
           0.11          0xF993FAC8 u32, count u32, each i64
           since 1.0     0xF993FAC9 u32, kind of storage i32 (0 is dense), count u32, each i64
"""

import math
import os
import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch

from backbones.state import State
from imagesets.errors import WrongInput

MAGIC = struct.pack("<QQ", 0x112, 0)
_WITH_LONG_SIDES, _WITH_STORAGE = 0xF993FAC8, 0xF993FAC9
_MOST_SIDES = 8  # more are no weights but another layout


class _Unreadable(Exception):
    """What a file has in place of what it should have."""


def is_mxnet_file(path: Path) -> bool:
    """Whether a file begins as MXNet's files do."""
    with open(path, "rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def read_mxnet_file(path: Path) -> State:
    """The arrays of a file by name; "arg:" and "aux:", which begin MXNet's names, are left out.

    Raises WrongInput, in one sentence, for anything but whole, named, dense arrays of float32.
    """
    try:
        with open(path, "rb") as file:
            file.seek(len(MAGIC))
            arrays = [_array(file, number) for number in range(_count(file))]
            names = [_name(file) for _ in range(_count(file))]
            if file.read(1):
                raise _Unreadable("bytes after its last name")
    except _Unreadable as found:
        raise WrongInput(f"weights file {path} is no MXNet file of named float32 arrays: it has {found}") from None
    if len(names) != len(arrays) or len({*names}) != len(names):
        raise WrongInput(f"weights file {path} names {len({*names})} of its {len(arrays)} arrays; each must have its own name")
    return dict(zip(names, arrays, strict=True))


def _array(file: BinaryIO, number: int) -> torch.Tensor:
    first = _number(file, "<I")
    if first == _WITH_STORAGE and (storage := _number(file, "<i")):
        raise _Unreadable(f"a sparse array (storage {storage}, array {number})")
    long = first in (_WITH_LONG_SIDES, _WITH_STORAGE)
    count = _number(file, "<I") if long else first
    if not 0 < count <= _MOST_SIDES:
        raise _Unreadable(f"an array of {count} dimensions (array {number})")
    sides = [_number(file, "<q" if long else "<I") for _ in range(count)]
    _taken(file, 8)  # the device that it was on
    if kind := _number(file, "<i"):
        raise _Unreadable(f"numbers of another kind than float32 (type {kind}, array {number})")
    if min(sides) < 1:
        raise _Unreadable(f"an array of the shape {sides} (array {number})")
    numbers = np.frombuffer(_taken(file, 4 * math.prod(sides)), "<f4")
    return torch.from_numpy(numbers.reshape(sides).copy())


def _name(file: BinaryIO) -> str:
    name = _taken(file, _count(file))
    if not name.isascii():
        raise _Unreadable("a name that is no text")
    return name.decode().removeprefix("arg:").removeprefix("aux:")


def _count(file: BinaryIO) -> int:
    return _number(file, "<Q")


def _number(file: BinaryIO, form: str) -> int:
    return int(struct.unpack(form, _taken(file, struct.calcsize(form)))[0])


def _taken(file: BinaryIO, size: int) -> bytes:
    """The next `size` bytes. A damaged size is found before memory is taken for it."""
    left = os.fstat(file.fileno()).st_size - file.tell()
    if size > left:
        raise _Unreadable(f"{left} bytes where {size} should follow")
    return file.read(size)
