"""The scripts in examples/ do what the pages say."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from examples import results_picture
from imagesets.palette import PALETTE
from tests.conftest import write_image_set
from tests.finished_run import finished_run


def test_the_picture_of_a_run_shows_images_beside_its_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, store = write_image_set(tmp_path / "images"), tmp_path / "store"
    name = finished_run(store, images, method="cam+irn")[2].name
    monkeypatch.setattr(results_picture, "ROWS", 3)
    results_picture.main(name, str(tmp_path / "picture.png"), store)
    with Image.open(tmp_path / "picture.png") as file:
        picture = np.asarray(file.convert("RGB")).astype(int)
    cells = picture[20 : 20 + 128, 4 + 132 : 4 + 132 + 128], picture[20 : 20 + 128, 4 + 264 : 4 + 264 + 128]
    for cell in cells:  # the seed and the pseudo mask of the first image, which shows disc and bar
        assert all((np.abs(cell - PALETTE[label]).sum(axis=-1) < 40).mean() > 0.02 for label in (0, 1, 2))
    assert picture.shape[1] == 4 + 4 * 132 + 4 + 3 * 132
