"""What many tests need: a tiny image set in VOC layout, and the command line."""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: two threads that share busy cores are slower than one

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from PIL import Image

from imagesets.palette import save_label_map
from orchestrator.cli import main
from orchestrator.planning import recipes

hypothesis.settings.register_profile("untimed", deadline=None)  # no test fails because a machine is busy
hypothesis.settings.load_profile("untimed")

CLASSES = ("disc", "bar")
Command = Callable[..., tuple[int, str, str]]


def write_image_set(root: Path, train: int = 6, val: int = 3, side: int = 48) -> Path:
    """Coloured discs and bars on noise; every image shows one or both."""
    rng = np.random.default_rng(0)
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    (root / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    lines = []
    for name, count in (("train", train), ("val", val)):
        ids = [f"{name}_{number}" for number in range(count)]
        (root / "ImageSets/Segmentation" / f"{name}.txt").write_text("\n".join(ids) + "\n")
        for number, image_id in enumerate(ids):
            labels = [CLASSES[number % 2]] if number % 3 else list(CLASSES)
            rgb, mask = _draw(labels, side, rng)
            Image.fromarray(rgb).save(root / "JPEGImages" / f"{image_id}.png")
            save_label_map(root / "SegmentationClass" / f"{image_id}.png", mask)
            lines.append(" ".join([image_id, *labels]))
    (root / "image_labels.txt").write_text("\n".join(lines) + "\n")
    return root


def _draw(labels: list[str], side: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    rgb = rng.integers(90, 130, (side, side, 3)).astype(np.uint8)
    mask = np.zeros((side, side), np.uint8)
    y, x = np.mgrid[:side, :side]
    if "disc" in labels:
        mask[(y - side * 0.3) ** 2 + (x - side * 0.3) ** 2 < (side * 0.2) ** 2] = 1
    if "bar" in labels:
        mask[int(side * 0.6) : int(side * 0.9), int(side * 0.2) : int(side * 0.8)] = 2
    rgb[mask == 1] = (220, 40, 40)
    rgb[mask == 2] = (40, 60, 220)
    return rgb, mask


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the workers of pytest-xdist share."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if own.name.startswith("popen-") else own  # as pytest-xdist names them


@pytest.fixture(scope="session")
def empty_database(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database without runs; MLflow takes seconds to make one."""
    made = shared / "empty.db"
    if not made.exists():
        from orchestrator.tracking.mlflow_experiment import open_client

        own = tmp_path_factory.mktemp("empty") / "mlflow.db"
        open_client(f"sqlite:///{own}").search_experiments()
        own.rename(made)
    return made


@pytest.fixture
def image_set(tmp_path: Path) -> Path:
    """The root of a fresh tiny image set."""
    return write_image_set(tmp_path / "images")


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    """Run `wsss-orch` with some words; exit code, output and errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["wsss-orch", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        shown = capsys.readouterr()
        return int(ended.value.code or 0), shown.out, shown.err

    return run


@pytest.fixture
def own_recipes(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The project's recipes and those in TOYS of the test's module, by name."""
    folder = tmp_path / "recipes"
    shutil.copytree(Path(recipes.package.__file__).parent, folder)
    for name, text in request.module.TOYS.items():
        (folder / f"{name}.yaml").write_text(text)
    monkeypatch.setattr(recipes.package, "__file__", str(folder / "__init__.py"))
    recipes.load_all.cache_clear()
    recipes.entries.cache_clear()
    yield
    monkeypatch.undo()
    recipes.load_all.cache_clear()
    recipes.entries.cache_clear()
