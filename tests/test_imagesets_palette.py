"""Label maps as files and colours, and contact sheets."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from imagesets.errors import WrongInput
from imagesets.item import read_label_map
from imagesets.overlay import overlay
from imagesets.palette import PALETTE, colourise, save_label_map
from imagesets.picture import contact_sheet

label_maps = arrays(np.uint8, st.tuples(st.integers(1, 20), st.integers(1, 20)))


def test_the_palette_is_that_of_voc():
    golden = np.load(Path(__file__).parent / "golden" / "palette.npz")["palette"]
    np.testing.assert_array_equal(PALETTE, golden)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(label_maps)
def test_a_saved_label_map_is_read_back_and_looks_like_its_colours(tmp_path, label):
    path = tmp_path / "label.png"
    save_label_map(path, label)
    np.testing.assert_array_equal(read_label_map(path), label)
    np.testing.assert_array_equal(np.asarray(Image.open(path).convert("RGB")), colourise(label))
    assert [file.name for file in tmp_path.iterdir()] == ["label.png"]


def test_a_label_map_that_cannot_be_written_leaves_the_old_file_and_no_rubbish(tmp_path, monkeypatch):
    path = tmp_path / "label.png"
    save_label_map(path, np.ones((2, 2), np.uint8))

    def half_a_file(image, target, **_):
        Path(target).write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(Image.Image, "save", half_a_file)
    with pytest.raises(OSError, match="no space"):
        save_label_map(path, np.zeros((2, 2), np.uint8))
    assert read_label_map(path).all()
    assert [file.name for file in tmp_path.iterdir()] == ["label.png"]


def test_a_label_map_may_have_the_longest_name_of_a_file(tmp_path):
    path = tmp_path / f"{'x' * 251}.png"
    save_label_map(path, np.zeros((2, 2), np.uint8))
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("size", "opacity", "said"),
    [((4, 4), 0.5, "the label map is 4x4 and its image 5x3"), ((3, 5), 7, "the opacity is 7; it must be from 0")],
)
def test_an_overlay_that_cannot_be_drawn_says_why(size, opacity, said):
    with pytest.raises(WrongInput, match=said):
        overlay(np.zeros((3, 5, 3), np.uint8), np.zeros(size, np.uint8), opacity)


def test_a_contact_sheet_shows_every_picture_in_its_cell():
    red, blue = (np.full((4, 4, 3), colour, np.uint8) for colour in ((255, 0, 0), (0, 0, 255)))
    sheet = contact_sheet([[red, blue], [blue]], ["image", "truth"], ["first", "second"], cell=40)
    reds, blues = ((sheet == colour).all(axis=2) for colour in ((255, 0, 0), (0, 0, 255)))
    assert reds.sum() == 40 * 40 and blues.sum() == 2 * 40 * 40
    assert np.argwhere(reds)[:, 1].max() < np.argwhere(blues)[:, 1].max()
    assert (sheet < 128).all(axis=2).any()  # the captions


def test_a_large_picture_is_fitted_into_its_cell():
    assert contact_sheet([[np.zeros((300, 500, 3), np.uint8)]], cell=50).shape == (58, 58, 3)
