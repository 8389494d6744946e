"""Maps in files of other programs: what IRN writes is read, and no code in a file is run."""

import io
import os
import pickle
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from imagesets import restricted_pickle
from imagesets.errors import WrongInput
from maps.files import map_problems, read_maps, unclipped

SIZE = (9, 14)  # of the image; its stride-4 grid is 3 x 4


def arrays(keys: tuple[int, ...] = (0, 2)) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    cam, high_res = (rng.random((len(keys), *size), np.float32) for size in ((3, 4), SIZE))
    return {"keys": np.array(keys, np.int64), "cam": cam, "high_res": high_res}


def as_irn_does(found: dict[str, np.ndarray]) -> dict[str, Any]:
    """Keys and strided maps as tensors, the keys as a column of a larger one."""
    keys = torch.stack([torch.from_numpy(found["keys"])] * 2, dim=1)[:, 0]
    return {"keys": keys, "cam": torch.from_numpy(found["cam"]), "high_res": found["high_res"]}


def save_object(path: Path, content: Any, protocol: int = 4) -> Path:
    """What np.save writes for an object, at any protocol of pickle."""
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": ()})
        around = np.empty((), object)
        around[()] = content
        pickle.dump(around, file, protocol=protocol)
    return path


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("form", [dict, as_irn_does])
def test_irn_s_dictionary_is_read_as_it_is(tmp_path: Path, form: Any, protocol: int) -> None:
    maps = read_maps(save_object(tmp_path / "a.npy", form(arrays()), protocol))
    assert maps.keys.tolist() == [0, 2] and maps.size == SIZE
    assert np.array_equal(maps.strided(), arrays()["cam"]) and np.array_equal(maps.full(), arrays()["high_res"])


def problems(path: Path, size: tuple[int, int]) -> list[str]:
    return map_problems(path, unclipped(path), size, classes=3)


def test_what_numpy_itself_saves_is_read_from_npy_and_from_npz(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", as_irn_does(arrays()), allow_pickle=True)
    np.savez(tmp_path / "a.npz", **arrays())
    for name in ("a.npy", "a.npz"):
        assert np.array_equal(read_maps(tmp_path / name).full(), arrays()["high_res"])


def test_an_image_without_classes_has_no_maps(tmp_path: Path) -> None:
    path = save_object(tmp_path / "a.npy", arrays(()) | {"keys": np.array([])})  # numbers of no kind
    assert read_maps(path).full().shape == (0, *SIZE) and problems(path, SIZE) == []


@given(st.sampled_from(sorted(restricted_pickle.NUMBERS)), st.sampled_from("<>"), st.booleans(), st.integers(0, 3))
@settings(max_examples=60)
def test_every_admitted_array_survives(code: str, order: str, fortran: bool, rows: int) -> None:
    array = np.arange(rows * 2, dtype=np.int8).reshape(rows, 2).astype(order + code, order="F" if fortran else "C")
    found = restricted_pickle.load(io.BytesIO(pickle.dumps({"a": array}, protocol=4)))["a"]
    assert found.shape == array.shape and np.array_equal(found, array)


class Calls:
    """An object whose pickle is a call."""

    def __init__(self, function: Any, *arguments: Any, state: Any = None) -> None:
        self.reduced = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self) -> Any:
        return self.reduced


def attacks(target: Path) -> dict[str, Any]:
    """Objects whose pickles create `target` when they are read carelessly."""
    make = f"open({str(target)!r}, 'w')"
    evil = pickle.dumps(Calls(eval, make), protocol=2)
    objects = np.empty(1, object)
    objects[0] = Calls(eval, make)
    return {
        "a call": Calls(os.mkdir, str(target)),
        "a call in a value": {"keys": Calls(eval, make), "cam": 0, "high_res": 0},
        "a call in an array of objects": {"keys": objects},
        "a call in a torch storage": {"keys": Calls(torch.storage._load_from_bytes, evil)},
        "a tensor of a made-up storage": {"keys": Calls(torch._utils._rebuild_tensor_v2, Calls(eval, make), 0, (1,), (1,))},
        "an attribute of an admitted function": {"keys": Calls(OrderedDict, state={"x": Calls(eval, make)})},
        "numpy's own reader": {"keys": Calls(np.load, str(target))},
    }


@pytest.mark.parametrize("kind", attacks(Path("x")))
def test_a_malicious_pickle_is_refused_and_runs_nothing(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "made"
    path = save_object(tmp_path / "a.npy", attacks(target)[kind])
    with pytest.raises(WrongInput, match=r"a\.npy (holds|cannot be read safely)") as refused:
        read_maps(path)
    assert not target.exists() and "np.savez" in str(refused.value) and "\n" not in str(refused.value)


def test_the_attacks_would_work_on_a_careless_reader(tmp_path: Path) -> None:
    target = tmp_path / "made"
    for kind in ("a call", "a call in a value", "a call in a torch storage"):
        path = save_object(tmp_path / "a.npy", attacks(target)[kind])
        with suppress(RuntimeError):  # torch notices too late that the file is cut off
            np.load(path, allow_pickle=True)
        assert target.exists(), kind
        target.rmdir() if target.is_dir() else target.unlink()


def test_arrays_of_objects_in_an_npz_are_refused(tmp_path: Path) -> None:
    target = tmp_path / "made"
    np.savez(tmp_path / "a.npz", **arrays() | {"keys": np.array([Calls(os.mkdir, str(target))], object)})
    with pytest.raises(WrongInput, match=r"a\.npz cannot be read safely"):
        read_maps(tmp_path / "a.npz")
    assert not target.exists()


def forged(dtype_state: tuple, shape: object, raw: object) -> bytes:
    """A pickled numpy array with forged parts."""
    dtype = Calls(np.dtype, "O8", False, True, state=dtype_state)
    inner = Calls(np._core.multiarray._reconstruct, np.ndarray, (0,), b"b", state=(1, shape, dtype, False, raw))
    return pickle.dumps(inner, protocol=4)


def test_bytes_are_never_taken_for_objects() -> None:
    """Without its flags a dtype of objects lets numpy read addresses out of the pickle's bytes."""
    without_flags = (3, "|", None, None, None, -1, -1, 0)
    for shape, raw in (((1,), b"\x00" * 8), ((), b"\x41" * 8)):
        with pytest.raises(Exception) as refused:
            restricted_pickle.load(io.BytesIO(forged(without_flags, shape, raw)))
        assert isinstance(refused.value, (restricted_pickle.Refused, ValueError, TypeError))


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [
        (0, (100,), (1,)),
        (11, (2,), (1,)),
        (-1, (2,), (1,)),
        (0, (2,), (-1,)),
        (0, (1 << 40,), (0,)),
        (0, (4, 4, 4), (1, 1, 1)),
    ],
)
def test_a_tensor_has_no_more_numbers_than_its_storage(offset: int, size: tuple, stride: tuple) -> None:
    storage = torch.arange(12.0).untyped_storage()
    typed = torch.storage.TypedStorage(wrap_storage=storage, dtype=torch.float32, _internal=True)
    pickled = pickle.dumps(Calls(torch._utils._rebuild_tensor_v2, typed, offset, size, stride, False, OrderedDict()))
    with pytest.raises((RuntimeError, ValueError)):
        restricted_pickle.load(io.BytesIO(pickled))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"keys": np.array([0])}, "has no cam and no high_res"),
        ([1, 2], "does not hold a dictionary"),
        (arrays() | {"cam": np.zeros((2, 3, 5), np.float32)}, r"holds keys \[2\], cam \[2, 3, 5\] and high_res \[2, 9, 14\]"),
        (arrays() | {"keys": np.array([0.5, 1.0])}, "whole numbers as keys"),
        (arrays() | {"high_res": "text"}, "arrays of numbers"),
    ],
)
def test_what_are_no_maps_is_refused_in_a_sentence(tmp_path: Path, content: Any, sentence: str) -> None:
    with pytest.raises(WrongInput, match=sentence):
        read_maps(save_object(tmp_path / "a.npy", content))


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"no array at all"])
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_a_broken_file_is_refused_in_a_sentence(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    with pytest.raises(WrongInput, match=r"a\.np[yz] cannot be read"):
        read_maps(path)


def test_values_just_outside_0_to_1_are_read_as_0_and_1(tmp_path: Path) -> None:
    """Powers follow: a negative value would become NaN, and so would 1 - a value above 1."""
    found = arrays()
    for name in ("cam", "high_res"):
        found[name][:, 0, :2] = -0.0005, 1.0005
    np.savez(tmp_path / "a.npz", **found)
    assert problems(tmp_path / "a.npz", SIZE) == []
    maps = read_maps(tmp_path / "a.npz")
    for planes, name in ((maps.strided(), "cam"), (maps.full(), "high_res")):
        assert (planes[:, 0, 0] == 0).all() and (planes[:, 0, 1] == 1).all()
        assert np.array_equal(planes[:, 1:], found[name][:, 1:])


def test_maps_that_do_not_fit_their_image_are_all_told(tmp_path: Path) -> None:
    wrong = arrays((1, 7)) | {"high_res": arrays()["high_res"] * 3}
    told = " ".join(problems(save_object(tmp_path / "a.npy", wrong), (9, 9)))
    for part in ("the classes [7]", "of 14x9 but its image is 9x9", "a map lies between 0 and 1"):
        assert part in told
    twice = arrays((1, 1)) | {"cam": np.full((2, 3, 4), np.nan, np.float32)}
    told = " ".join(problems(save_object(tmp_path / "b.npy", twice), SIZE))
    assert "several maps of one class" in told and "not finite" in told
