"""The benchmark of FSL's settings: its Gaussians, its scores, and a run on a folder."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import similarity_settings
from benchmarks.similarity_settings import Scene, gaussian, quality
from imagesets.palette import save_label_map
from tests.conftest import write_image_set


def rectangle() -> np.ndarray:
    mask = np.zeros((60, 100), np.uint8)
    mask[20:40, 30:70] = 2
    mask[38:40] = np.where(mask[38:40] == 2, 255, 0)  # void along its lower edge
    return mask


def test_a_map_begins_as_a_gaussian_with_the_mean_and_the_variances_of_the_mask() -> None:
    found = gaussian(rectangle() == 2, (30, 50))
    rows, columns = np.mgrid[:30, :50] + 0.5
    mean = [(found * axis).sum() / found.sum() for axis in (rows, columns)]
    assert mean == pytest.approx([29 / 2, 50 / 2], abs=1e-3)
    spread = [(found * (axis - middle) ** 2).sum() / found.sum() for axis, middle in zip((rows, columns), mean, strict=True)]
    assert spread == pytest.approx([18**2 / 12 / 4, 40**2 / 12 / 4], rel=0.02)


def test_the_mask_itself_is_a_perfect_map_and_its_opposite_none() -> None:
    scene = Scene(np.zeros((60, 100, 3), np.uint8), rectangle(), side=50)
    whole = torch.from_numpy(np.where(scene.mask == 2, 1.0, -1.0))[None, None]
    assert quality([scene], [whole], classes=3)[0] == 100
    assert quality([scene], [-whole], classes=3)[0] == 0


def test_fsl_moves_a_gaussian_towards_an_object_of_one_colour() -> None:
    rgb = np.full((60, 100, 3), 40, np.uint8)
    rgb[20:40, 30:70] = (200, 120, 90)
    scene = Scene(rgb, rectangle(), side=50)
    before, after = (quality([scene], [maps], classes=3) for maps in (scene.start, scene.moved(2.5, 5.0)[-1]))
    assert sum(after) > sum(before) + 20


@pytest.mark.slow
def test_it_finds_the_best_settings_of_a_folder_and_draws_them(tmp_path: Path, monkeypatch, capsys) -> None:
    images = write_image_set(tmp_path / "images")
    mask = np.zeros((48, 48), np.uint8)
    mask[10:30, 10:30] = 1
    save_label_map(images / "SegmentationClass" / "train_4.png", mask)
    monkeypatch.setattr(similarity_settings, "SIGMAS", (2.0, 5.0))
    words = ["similarity_settings", f"--images=folder:{images}", "--each=2", "--side=16", f"--to={tmp_path / 'figure.png'}"]
    monkeypatch.setattr(sys, "argv", words)
    similarity_settings.main()
    first, *_, last = capsys.readouterr().out.splitlines()
    assert "images of images; the Gaussians" in first and last.startswith("best J&F")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
