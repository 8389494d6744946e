"""The scripts in examples/ do what the pages say."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from examples import look_at_results, results_picture, segment_photographs, share_a_segmenter
from imagesets.palette import PALETTE
from tests.conftest import write_image_set
from tests.finished_run import finished_run
from tests.launching import TINY

SETTINGS = {"deeplabv2.crop": 48, "deeplabv2.batch": 2, "deeplabv2.iterations": 10}


def options(image_set: Path, tmp_path: Path) -> dict[str, Any]:
    """A tiny launch in place of the example's own."""
    tiny = {"recipe": str(TINY), "segmenter": "deeplabv2-small", "settings": SETTINGS, "store": tmp_path / "store"}
    return {"images": f"folder:{image_set}", **tiny}


@pytest.mark.slow
def test_photographs_are_segmented(image_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    segment_photographs.main(tmp_path / "out", **options(image_set, tmp_path))
    found = {path.name for path in (tmp_path / "out").iterdir()}
    assert found == {"legend.png", "val_0.png", "val_1.png", "val_2.png", "large.png", "large_segmented.png"}
    assert "deeplabv2  val" in capsys.readouterr().out and Image.open(tmp_path / "out" / "large_segmented.png").size == (192, 192)


@pytest.mark.slow
def test_results_are_looked_at(image_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    look_at_results.main(tmp_path / "out.png", **options(image_set, tmp_path))
    shown = capsys.readouterr().out
    assert "cam+none, mean and standard deviation of the mIoU over 2 runs" in shown and "'split': 'train'" in shown
    assert len(np.unique(np.asarray(Image.open(tmp_path / "out.png")))) > 20


@pytest.mark.slow
def test_a_segmenter_is_shared(image_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    share_a_segmenter.main(tmp_path / "out", **options(image_set, tmp_path))
    shown = capsys.readouterr().out
    assert "segmenter.zip of" in shown and "in place of cam's" in shown and "100.00% of the pixels" in shown
    assert (tmp_path / "out" / "model" / "model_card.md").is_file()


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
