"""`wsss-orch init`: an image set of one's own photographs, and a file of settings."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from imagesets.folder import open_folder
from orchestrator.cli.next_command import next_command
from orchestrator.planning.experiment import Request, experiment
from orchestrator.planning.settings_file import commented_settings
from tests.conftest import Command

LABELS = "filename,labels\nmy cat.jpg,cat\n2.jpg,dog\n3.jpg,\n4.jpg,cat\n5.jpg,dog\n"


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Five photographs: one with a blank in its name, one that lies on its side."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    for number, name in enumerate(("my cat", "2", "3", "4", "5")):
        image = Image.fromarray(np.full((40, 60, 3), 40 * number, np.uint8))
        exif = Image.Exif()
        exif[0x0112] = 6 if name == "2" else 1
        image.save(folder / f"{name}.jpg", exif=exif)
    (tmp_path / "labels.csv").write_text(LABELS)
    return folder


def test_photographs_and_labels_become_an_image_set_without_a_problem(command: Command, photographs: Path) -> None:
    code, shown, errors = command("init", "pets", "--photographs", photographs, "--labels", "labels.csv")
    assert code == 0, errors
    assert "written  pets (4 images in train, 1 images in val; classes cat, dog)" in shown
    assert "next     wsss-orch images check folder:pets" in shown
    code, shown, errors = command("images", "check", "folder:pets")
    assert code == 0, errors
    lines = Path("pets/image_labels.txt").read_text().splitlines()
    assert "my_cat\tcat" in lines and "3\t" in lines
    with Image.open("pets/JPEGImages/2.jpg") as turned:
        assert turned.size == (40, 60)  # it stands upright now
    assert Path("pets/JPEGImages/4.jpg").read_bytes() == (photographs / "4.jpg").read_bytes()
    assert command("launch", "--method", "cam+irn", "--images", "folder:pets", "--recipe", "pets/settings.yaml", "--plan")[0] == 2


def test_without_labels_there_is_a_table_to_fill_in(command: Command, photographs: Path) -> None:
    assert command("init", "pets", "--photographs", photographs, "--classes", "cat, sea lion")[0] == 0
    table = Path("pets/image_labels.csv")
    assert table.read_text().splitlines()[:2] == ["image,cat,sea lion", "2,,"]
    table.write_text(table.read_text().replace("2,,", "2,,1").replace("4,,", "4,1,"))
    code, shown, _ = command("images", "check", "folder:pets")
    rows = {line.split("  ")[0].strip(): line.split()[-2:] for line in shown.splitlines() if line.strip()}
    assert code == 0 and sum(map(int, rows["cat"])) == 1 and sum(map(int, rows["sea lion"])) == 1


def test_what_is_not_taken_is_told(command: Command, photographs: Path) -> None:
    for name in ("4", "5"):
        (photographs / f"{name}.jpg").unlink()
    (photographs / "more").mkdir()
    (photographs / "more/6.JPG").write_bytes(b"")
    code, shown, _ = command("init", "pets", "--photographs", "photographs", "--labels", "labels.csv")
    assert code == 0 and "warning: --labels names images that are not in photographs: 2 (4, 5)" in shown
    assert "warning: images in folders of photographs are not copied: 1 (more/6.JPG)" in shown
    code, shown, _ = command("init", "photographs/pets", "--photographs", "photographs", "--labels", "labels.csv")
    assert code == 0 and "are not copied: 1 (more/6.JPG)" in shown  # not those of the new folder


@pytest.mark.parametrize("given", ["--labels", "--classes"])
def test_names_with_two_suffixes_are_written_in_full(given: str, command: Command, photographs: Path) -> None:
    for old, new in (("4", "cat.jpg"), ("5", "x.png")):
        (photographs / f"{old}.jpg").rename(photographs / f"{new}.jpg")
    Path("labels.csv").write_text(LABELS.replace("4.jpg", "cat.jpg.jpg").replace("5.jpg", "x.png.jpg"))
    command("init", "pets", "--photographs", photographs, given, {"--labels": "labels.csv", "--classes": "cat,dog"}[given])
    _, _, errors = command("images", "check", "folder:pets")
    assert "no file" not in errors and "no line" not in errors
    Path("pets/JPEGImages/cat.jpg.jpg").write_bytes(b"no image")
    command("images", "check", "folder:pets", "--bad", "bad.txt")
    assert Path("bad.txt").read_text() == "cat.jpg.jpg\n"
    images = open_folder("pets", {"labels": "auto", "masks": ["SegmentationClass"]})
    assert images.without(Path("bad.txt")).excluded == {"cat.jpg"}
    code, _, errors = command("images", "split", "folder:pets", "--list", "train", "--into", "a,b", "--share", "0.5")
    assert code == 0 and {*images.ids("a"), *images.ids("b")} == {*images.ids("train")}, errors


def test_an_empty_image_set_says_what_belongs_where(command: Command) -> None:
    code, shown, _ = command("init", "pets")
    assert code == 0 and "next     put images, lists and labels into pets" in shown
    assert "0 is background" in Path("pets/README.md").read_text()
    code, _, errors = command("images", "check", "folder:pets")
    assert code == 2 and "train.txt is empty" in errors


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--labels", "nothing.csv"), "--labels nothing.csv: there is no such file"),
        (("--photographs", "photographs"), "what do the photographs show"),
        (("--photographs", "nothing"), "--photographs nothing: there is no such folder"),
        (("--photographs", "nothing", "--classes", "cat"), "--photographs nothing: there is no such folder"),
        (("--photographs", "empty", "--classes", "cat"), "--photographs empty holds no image"),
        (
            ("--photographs", "one", "--classes", "cat"),
            "; an image set needs two, one for each of train and val; images in one in f",
        ),
        (
            ("--photographs", "photographs", "--labels", "labels.csv", "--classes", "cat"),
            "image 2, names the class 'dog'; the clas",
        ),
        (("--photographs", "photographs", "--classes", "cat,cat"), "must hold 1 to 254 different class names"),
        (("--photographs", "photographs", "--labels", "few.csv"), "but not 4 of the 5 in photographs, such as 3, 4, 5, ...;"),
        (("--photographs", "broken", "--classes", "cat"), "1.jpg cannot be copied"),
        (
            ("--labels", "capitals.csv"),
            "capitals.csv names 'Dog' and 'dog'; write them alike, or name both as classes by --classes",
        ),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_written(
    words: tuple[str, ...], said: str, command: Command, photographs: Path
) -> None:
    Path("empty").mkdir()
    for name in ("broken/1.jpg", "broken/2.jpg", "one/1.jpg", "one/2.heic"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_bytes(b"no image")
    Path("capitals.csv").write_text("image,label\n1,dog\n2,Dog\n")
    Path("few.csv").write_text("image,label\n2,cat\n")
    code, _, errors = command("init", "pets", *words)
    assert code == 2 and said in errors and not Path("pets").exists()
    assert [path.name for path in Path().iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize(
    ("given", "name", "text"),
    [
        (("--classes", "ka\u0308tzchen,dog"), "l.csv", "image,k\xe4tzchen,dog\n2,1,0\n3,0,1\n"),
        ((), "l.xml", '<annotations><image name="3"><tag label="ka\u0308tzchen"/></image>'
                      '<image name="2"><tag label="k\xe4tzchen"/></image></annotations>'),
    ],
)  # fmt: skip
def test_a_class_is_one_whether_its_accents_are_apart_or_not(
    command: Command, photographs: Path, given: tuple[str, ...], name: str, text: str
) -> None:
    Path(name).write_text(text, encoding="utf-8")
    for other in ("my cat", "4", "5"):
        (photographs / f"{other}.jpg").unlink()
    code, _, errors = command("init", "pets", "--photographs", photographs, "--labels", name, *given)
    assert code == 0 and Path("pets/classes.txt").read_text(encoding="utf-8").startswith("k\xe4tzchen\n"), errors


def test_a_photograph_whose_name_is_not_utf8_is_told(command: Command, photographs: Path) -> None:
    shutil.copy(photographs / "2.jpg", os.fsdecode(os.fsencode(photographs) + b"/caf\xe9.jpg"))
    code, _, errors = command("init", "pets", "--photographs", photographs, "--classes", "cat")
    assert code == 2 and r"whose name is not UTF-8, 'caf\udce9'; rename it" in errors and not Path("pets").exists()


def test_a_folder_in_use_is_not_touched(command: Command) -> None:
    Path("pets").mkdir()
    Path("pets/mine.txt").write_text("mine")
    code, _, errors = command("init", "pets")
    assert (
        code == 2
        and "pets exists and is not an empty folder" in errors
        and list(Path("pets").iterdir()) == [Path("pets/mine.txt")]
    )


def test_the_file_of_settings_is_that_of_the_preset(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(commented_settings())
    for method, segmenter in (("cam+irn", "upernet"), ("lpcam+amn", ""), ("seam+isl+fsl", "pspnet")):
        mine, preset = (experiment(Request(method, "folder:x", segmenter, recipe)) for recipe in (str(path), "laptop"))
        assert mine.used == preset.used
    assert yaml.safe_load(path.read_text())["backbone.weights"] == "imagenet"  # for those who have it in a file
    assert all(" # " in line for line in path.read_text().splitlines() if line and line[0] != "#")


@pytest.mark.parametrize(
    ("words", "message", "told"),
    [
        ("launch --method cam+irm", "there is no method or refiner called 'irm'; did you mean 'irn'?", "launch --method cam+irn"),
        (
            "launch --method cam --images ./pets",
            "./pets is no kind; did you mean folder:./pets?",
            "launch --method cam --images folder:./pets",
        ),
        (
            "launch --method cam+irm --images folder:pets/irma --store irm-store/x",
            "there is no method or refiner called 'irm'; did you mean 'irn'?",
            "launch --method cam+irn --images folder:pets/irma --store irm-store/x",
        ),
        ("images check pets", "x; did you mean folder-per-class:pets?", "images check folder-per-class:pets"),
        ("launch --images folder:a/b", f"2 problems:\n  {Path.cwd()}/a/b/train.txt is empty", "images check folder:a/b"),
        ("launch --images folder:.", f"{Path.cwd()}/classes.txt is missing", "images check folder:."),
        ("launch --images folder:.", "cam.epochs=0 must be at least 1", "show cam"),
        ("launch --images folder:set", "--set 'x' has no '='; it takes key=value, such as --set cam.epochs=3", "show cam"),
        ("launch --images folder:a", f"{Path.cwd()}/a.yaml is no file", "launch --help"),
        ("launch --method cam", "cam.epochs='x' must be a whole number", "show cam"),
        ("launch --method cam", "--engine foo is neither ray nor local", "launch --help"),
        ("images check folder:pets", "pets/train.txt is empty", "images check --help"),
    ],
)
def test_an_error_tells_the_next_command(words: str, message: str, told: str) -> None:
    assert next_command(words.split(), message) == f"next: wsss-orch {told}"


def test_a_run_that_is_not_there_leads_to_the_runs_and_a_message_with_a_command_to_no_other(command: Command) -> None:
    assert next_command(["export", "x"], "there is no finished run 'x' in /s/runs") == "next: ls /s/runs"
    assert next_command(["report", "x"], "/s has no finished run of 'x'") == "next: ls /s/runs"
    assert next_command(["launch"], "it has none; this makes them: wsss-orch images prepare coco:x") == ""
    code, _, errors = command("launch", "--method", "cam+irm")
    assert code == 2 and errors.splitlines()[-1] == "next: wsss-orch launch --method cam+irn"
