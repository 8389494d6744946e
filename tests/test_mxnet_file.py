"""Files that MXNet wrote (mx.nd.save of three versions), and what is refused."""

import struct
from pathlib import Path

import pytest
import torch

from backbones.mxnet_file import MAGIC, is_mxnet_file, read_mxnet_file
from imagesets.errors import WrongInput

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("version", ["0.9.5", "0.11.0", "1.9.1"])  # the three layouts
def test_arrays_are_read_under_their_names(version):
    found = read_mxnet_file(GOLDEN / f"mxnet_{version}.params")
    assert list(found) == ["a_weight", "a_moving_mean"]
    assert torch.equal(found["a_weight"], torch.arange(6.0).reshape(1, 2, 3)) and found["a_moving_mean"].tolist() == [0.5]


@pytest.mark.parametrize(
    ("file", "told"),
    [
        ("bad_float64.params", r"it has numbers of another kind than float32 \(type 1, array 0\)$"),
        ("bad_sparse.params", r"it has a sparse array \(storage 1, array 0\)$"),
        ("bad_nameless.params", r"names 0 of its 1 arrays; each must have its own name$"),
    ],
)
def test_what_mxnet_wrote_beside_named_float32_arrays_is_refused(file, told):
    with pytest.raises(WrongInput, match=told):
        read_mxnet_file(GOLDEN / file)


@pytest.mark.parametrize("version", ["0.9.5", "0.11.0", "1.9.1"])
def test_a_file_that_is_cut_anywhere_or_goes_on_is_refused(version, tmp_path):
    whole, path = (GOLDEN / f"mxnet_{version}.params").read_bytes(), tmp_path / "cut.params"
    for length in range(len(MAGIC), len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(WrongInput, match=r"it has \d+ bytes where \d+ should follow$"):
            read_mxnet_file(path)
    path.write_bytes(whole + b"x")
    with pytest.raises(WrongInput, match="it has bytes after its last name"):
        read_mxnet_file(path)


@pytest.mark.parametrize(
    ("rest", "told"),
    [
        (struct.pack("<QIIII", 1, 2, 1 << 31, 1 << 31, 1), "bytes where"),  # 16 EiB
        (struct.pack("<QI", 1, 100), "an array of 100 dimensions"),
        (struct.pack("<QIIq8xi", 1, 0xF993FAC8, 1, -1, 0), r"an array of the shape \[-1\]"),
        (struct.pack("<QII8xifQQ", 1, 1, 1, 0, 2.5, 1, 2) + b"\xff\xff", "a name that is no text"),
        (struct.pack("<QII8xifQ", 1, 1, 1, 0, 2.5, 1 << 60), "bytes where"),
    ],
)
def test_damaged_numbers_are_told(rest, told, tmp_path):
    (tmp_path / "x.params").write_bytes(MAGIC + rest)
    with pytest.raises(WrongInput, match=told):
        read_mxnet_file(tmp_path / "x.params")


def test_other_files_are_not_taken_for_mxnets(tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "a.pth")
    assert not is_mxnet_file(tmp_path / "a.pth") and is_mxnet_file(GOLDEN / "mxnet_0.9.5.params")
