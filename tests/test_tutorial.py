"""docs/tutorial.md: its commands, in the order of the page, make what it says of drawn photographs with a small network."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image

from tests.conftest import write_image_set

PAGE = (Path(__file__).parent.parent / "docs/tutorial.md").read_text()
NAMES = {"disc": "cat", "bar": "dog"}
SMALL = """
# a network without weights to download, trained for seconds: the masks are poor, but they are made
backbone.name: small
backbone.weights: none
training.workers: 1
cam.epochs: 4
cam.batch: 8
cam.lr: 0.001
cam.head_lr: 0.003
cam.long_side: [40, 56]
cam.crop: 48
cam.scales: [1.0]
cam.seed_threshold: 0.5
lpcam.clusters: 3
lpcam.scales: [1.0]
irn.epochs: 2
irn.batch: 8
irn.crop: 96
upernet.backbone: small
upernet.weights: none
upernet.iterations: 10
upernet.batch: 4
upernet.crop: 48
upernet.fit: [64, 64]
upernet.test_fit: [64, 64]
upernet.test_scales: [1.0]
"""
COMMANDS = re.findall(r"^    (wsss-orch .*)$", PAGE, re.MULTILINE)
PROGRAM = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """The folder of somebody who has photographs and labels of them, and some more photographs."""
    made = write_image_set(tmp_path / "made", train=40, val=4)
    for folder, kind, form in (("photographs", "train", "IMG_{:04d}.jpg"), ("new_photographs", "val", "IMG_{:04d}.jpg")):
        (tmp_path / folder).mkdir()
        for number in range(40 if kind == "train" else 4):
            with Image.open(made / "JPEGImages" / f"{kind}_{number}.png") as file:
                file.convert("RGB").save(tmp_path / folder / form.format(number + (101 if kind == "val" else 1)), quality=95)
    lines = [line.split() for line in (made / "image_labels.txt").read_text().splitlines() if line.startswith("train")]
    rows = [f'IMG_{number:04d}.jpg,"{",".join(NAMES[name] for name in names)}"' for number, (_, *names) in enumerate(lines, 1)]
    (tmp_path / "labels.csv").write_text("\n".join(["filename,labels", *rows]) + "\n")
    return tmp_path


def run(command: str, place: Path) -> str:
    """What a command of the page prints; it must end well."""
    words = shlex.split(command)
    program = [sys.executable, "-c", "from orchestrator.cli import main; main()", *words[1:]]
    done = subprocess.run(program, cwd=place, capture_output=True, text=True, env={**os.environ, "COLUMNS": "200"}, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def masks_for_val(place: Path) -> None:
    """Masks of the photographs of val, as a person would draw them."""
    for id in (place / "pets/ImageSets/Segmentation/val.txt").read_text().split():
        drawn = place / "made/SegmentationClass" / f"train_{int(id.removeprefix('IMG_')) - 1}.png"
        with Image.open(drawn) as file:
            file.save(place / "pets/SegmentationClass" / f"{id}.png")


@pytest.mark.slow
def test_the_tutorial_makes_a_segmenter_of_photographs(place: Path) -> None:
    init, check, show, plan, first, export, report, again, second, compare, predict = COMMANDS
    assert PROGRAM
    assert "32 images in train, 8 images in val; classes cat, dog" in run(init, place)
    assert "has no problems; its image-level labels come from image_labels.txt" in run(check, place)
    run(show, place)
    settings = place / "pets/settings.yaml"
    kept = [line for line in settings.read_text().splitlines() if line.partition(":")[0] not in yaml.safe_load(SMALL)]
    settings.write_text("\n".join(kept) + SMALL)
    assert "upernet-segmenter" in run(plan, place) and not (place / "wsss-store/runs").exists()
    assert "nothing was scored" in run(first, place)
    run(export, place)
    run(report, place)
    assert "data:image/webp" in (place / "report.html").read_text()
    assert len(list((place / "pseudo_masks").glob("*.png"))) == 32
    masks_for_val(place)
    told = run(again, place)
    assert "cam-network: begins" not in told and "upernet-segmenter: begins" not in told
    score = float(next(line for line in told.splitlines() if line.split()[:3] == ["seg", "upernet", "val"]).split()[3])
    assert 0 < score < 100
    assert "cam-network: begins" not in run(second, place)
    run(compare, place)
    run(predict, place)
    assert sorted(path.name for path in (place / "segmented").glob("IMG*.png")) == [f"IMG_{101 + n:04d}.png" for n in range(4)]
    done = subprocess.run([sys.executable, "-c", PROGRAM[1]], cwd=place, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    shares = dict(re.findall(r"'(\w+)': [^\d]*(?:float64\()?([\d.]+)", done.stdout))
    assert set(shares) == {"cat", "dog"} and sum(map(float, shares.values())) > 0.05
