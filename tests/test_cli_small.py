"""`images`, `evaluate` and `doctor`: what they print, and what they refuse in one sentence."""

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from rich.text import Text

from imagesets.palette import save_label_map
from orchestrator import environment
from orchestrator.planning import precision
from orchestrator.planning.recipes import load_all
from orchestrator.reading.tables import table, terminal
from tests.conftest import Command

COMMANDS = (
    "init",
    "launch",
    "sweep",
    "table",
    "tables",
    "compare",
    "report",
    "evaluate",
    "export",
    "predict",
    "reproduce",
    "clean",
    "track",
    "ui",
    "doctor",
    "submit",
    "status",
    "logs",
    "stop",
)
WORDS = [("images", "check"), ("images", "show"), ("images", "split"), *((name,) for name in COMMANDS)]
HEAVY = ("torch", "ray", "mlflow", "matplotlib", "jinja2", "cv2")


@pytest.fixture
def predictions(image_set: Path, tmp_path: Path) -> Path:
    """A folder of perfect predictions for the list val."""
    folder = tmp_path / "predictions"
    folder.mkdir()
    for mask in (image_set / "SegmentationClass").glob("val_*.png"):
        (folder / mask.name).write_bytes(mask.read_bytes())
    return folder


def test_nothing_heavy_is_imported_for_help() -> None:
    program = f"import sys, orchestrator.cli; print([name for name in {HEAVY} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "[]\n"


@pytest.mark.parametrize("words", WORDS)
def test_every_help_ends_in_examples(command: Command, words: tuple[str, ...]) -> None:
    code, shown, _ = command(*words, "--help")
    assert code == 0 and f"wsss-orch {' '.join(words)}" in shown.partition("Examples:")[2]


def test_a_pattern_that_matches_nothing_is_refused(command: Command) -> None:
    assert command("ls", "lpcam")[0] == 0
    code, shown, errors = command("ls", "nosuch")
    assert code == 2 and not shown and "nothing is called like 'nosuch'" in errors


def test_a_kind_lists_all_of_it(command: Command) -> None:
    _, shown, _ = command("ls", "refiner")
    assert {line.split()[0] for line in shown.splitlines() if " refiner " in line} == {
        recipe.name for recipe in load_all().values() if recipe.kind == "refiner"
    }
    assert " network " not in shown and " backbone " not in shown


def test_a_whole_image_set_is_counted_by_list_and_class(command: Command, image_set: Path) -> None:
    code, shown, _ = command("images", "check", f"folder:{image_set}")
    assert code == 0 and "has no problems; its image-level labels come from image_labels.txt" in shown
    rows = {cells[0]: cells[1:] for line in shown.splitlines() if len(cells := line.split()) == 3}
    assert rows["all"] == ["6", "3"]
    assert int(rows["disc"][0]) + int(rows["bar"][0]) == 6 + 2  # two training images show both


def test_all_problems_of_an_image_set_are_told_at_once(command: Command, image_set: Path) -> None:
    (image_set / "JPEGImages" / "train_1.png").unlink()
    save_label_map(image_set / "SegmentationClass" / "val_2.png", np.full((48, 48), 7, np.uint8))
    code, _, errors = command("images", "check", f"folder:{image_set}")
    assert code == 2 and "2 problems" in errors and "train_1" in errors and "holds the labels [7]" in errors


def test_what_is_suspicious_is_told_and_images_with_a_problem_can_be_excluded(command: Command, image_set: Path) -> None:
    (image_set / "image_labels.txt").write_text((image_set / "image_labels.txt").read_text().replace("train_1 bar", "train_1"))
    code, shown, _ = command("images", "check", f"folder:{image_set}")
    assert code == 0 and "warning: 1 of 9 masks show other classes than the labels" in shown
    rows = {line.split("  ")[0].strip(): line.split()[-2:] for line in shown.splitlines() if line.strip()}
    assert rows["without labels"] == ["1", "0"] and rows["with a mask"] == ["6", "3"]
    (image_set / "JPEGImages" / "train_2.png").unlink()
    Image.new("RGB", (1, 48)).save(image_set / "JPEGImages" / "train_3.png")
    code, _, errors = command("images", "check", f"folder:{image_set}", "--bad", "bad.txt")
    assert code == 2 and "train_3.png is 1x48" in errors
    assert Path("bad.txt").read_text().split() == ["train_2", "train_3"]


def test_some_masks_of_a_list_are_scored_as_the_message_and_the_page_say(command: Command, image_set: Path) -> None:
    for number in range(4):
        (image_set / "SegmentationClass" / f"train_{number}.png").unlink()
    code, _, errors = command("images", "check", f"folder:{image_set}")
    told = errors.partition("this makes one: ")[2].splitlines()[0]
    assert code == 2 and "--set images.scoring=LIST" in errors
    subprocess.run(told, shell=True, check=True)  # ls SEGMENTATIONCLASS > LIST.txt, with the masks of val too
    code, shown, _ = command("images", "check", f"folder:{image_set}", "--set", "images.scoring=LIST")
    rows = {cells[0].strip(): cells[1:] for line in shown.splitlines() if len(cells := line.rsplit(maxsplit=3)) == 4}
    assert code == 0 and rows["all"] == ["6", "5", "3"] and rows["with a mask"] == ["2", "5", "3"]


def test_a_list_is_divided_the_same_way_every_time_and_nothing_is_overwritten(command: Command, image_set: Path) -> None:
    lists = image_set / "ImageSets/Segmentation"
    words = "images", "split", f"folder:{image_set}", "--list", "train"
    code, _, errors = command(*words)
    assert code == 2 and "train.txt is there already" in errors
    code, shown, _ = command(*words, "--into", "learn, holdout", "--share", 0.34)
    assert code == 0 and "2 of the 6 images of train" in shown
    learn, holdout = ((lists / f"{name}.txt").read_text().split() for name in ("learn", "holdout"))
    assert (len(learn), len(holdout)) == (4, 2) and {*learn, *holdout} == set((lists / "train.txt").read_text().split())
    (lists / "train.txt").write_text("\n".join(reversed([*learn, *holdout])))
    assert command(*words, "--into", "a,b", "--share", 0.34)[0] == 0
    assert set((lists / "b.txt").read_text().split()) == set(holdout)
    for into in ("a", "a,a", "a,b/c", "../x,y", ",y"):
        assert "must name two lists" in command(*words, "--into", into)[2]
    assert "--share nan of the 6 images of train leaves one" in command(*words, "--into", "c,d", "--share", "nan")[2]
    (lists / "train.txt").write_text("train_0\ntrain_1\ntrain_0\n")
    assert "names the image train_0 2 times; once is right" in command(*words, "--into", "c,d")[2]
    assert not list(lists.parent.glob("*.txt")) and not (lists / "c.txt").exists()
    code, _, errors = command("images", "check", f"folder:{image_set}", "--set", "images.validation=nothing")
    assert code == 2 and "`wsss-orch images split` makes train and val of one" in errors


@pytest.mark.parametrize("with_masks", [True, False])
def test_a_contact_sheet_shows_images_beside_their_masks(
    command: Command, image_set: Path, tmp_path: Path, with_masks: bool
) -> None:
    if not with_masks:
        (image_set / "SegmentationClass" / "train_0.png").unlink()
    code, shown, _ = command("images", "show", f"folder:{image_set}", "--count", 4, "--output", tmp_path / "sheet.png")
    assert code == 0 and "4 of the 6 images of train" in shown
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert (
            (128, 0, 0) in {colour for _, colour in sheet.getcolors(1 << 24) or []}
        ) == with_masks  # the palette's first class
        assert sheet.width == 3 * (4 + 164 * (2 if with_masks else 1))


def test_characters_that_a_contact_sheet_cannot_show_are_told(command: Command, image_set: Path) -> None:
    words = "images", "show", f"folder:{image_set}", "--output", "sheet.png"
    assert "empty boxes" not in command(*words)[1]
    for name in ("classes.txt", "image_labels.txt"):
        (image_set / name).write_text((image_set / name).read_text().replace("disc", "猫é"))
    assert "warning: sheet.png shows empty boxes for characters that its font does not have: é猫" in command(*words)[1]


@pytest.mark.parametrize("folder", ["JPEGImages", "SegmentationClass"])
def test_a_contact_sheet_of_a_damaged_file_is_refused(command: Command, image_set: Path, folder: str) -> None:
    path = image_set / folder / "train_1.png"
    path.write_bytes(path.read_bytes()[:60])
    code, _, errors = command("images", "show", f"folder:{image_set}", "--output", "sheet.png")
    assert code == 2 and f"{path} cannot be shown: " in errors and not Path("sheet.png").exists()
    path.unlink()
    path.symlink_to("nowhere")
    code, _, errors = command("images", "show", f"folder:{image_set}", "--output", "sheet.png")
    assert code == 2 and f"{path} cannot be shown: " in errors
    code, _, errors = command("images", "show", f"folder:{image_set}", "--list", "x", "--output", "sheet.png")
    assert code == 2 and "has no list 'x'" in errors and "--list or, for a run, --set images.training=LIST" in errors


def test_the_truth_as_a_prediction_scores_100(command: Command, image_set: Path, predictions: Path, tmp_path: Path) -> None:
    code, shown, _ = command(
        "evaluate", "--masks", predictions, "--images", f"folder:{image_set}", "--json", tmp_path / "scores.json"
    )
    assert code == 0 and "mIoU 100.0 % on 3 images of val" in shown
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["metrics"]["miou"] == 1 and set(scores["per_class"]) == {"background", "disc", "bar"}
    assert scores["protocol"]["split"] == "val" and scores["protocol"]["miou"] == "union"


def test_a_half_wrong_prediction_scores_what_counting_gives(
    command: Command, image_set: Path, predictions: Path, tmp_path: Path
) -> None:
    masks = [np.asarray(Image.open(path)) for path in sorted((image_set / "SegmentationClass").glob("val_*.png"))]
    for path in predictions.iterdir():
        save_label_map(path, np.where(np.asarray(Image.open(path)) == 1, 0, np.asarray(Image.open(path))).astype(np.uint8))
    command("evaluate", "--masks", predictions, "--images", f"folder:{image_set}", "--json", tmp_path / "scores.json")
    scores = json.loads((tmp_path / "scores.json").read_text())
    background = sum((mask == 0).sum() for mask in masks) / sum(((mask == 0) | (mask == 1)).sum() for mask in masks)
    assert scores["per_class"]["disc"]["iou"] == 0 and scores["per_class"]["bar"]["iou"] == 1
    assert scores["per_class"]["background"]["iou"] == pytest.approx(background)


def spoil(path: Path, label: np.ndarray, mode: str) -> None:
    """Make a prediction wrong in one way."""
    if mode == "missing":
        path.unlink()
    elif mode == "colour":
        Image.fromarray(np.zeros((48, 48, 3), np.uint8)).save(path)
    elif mode == "broken":
        path.write_bytes(path.read_bytes()[:30])
    else:
        save_label_map(path, label[:, :40] if mode == "size" else np.full_like(label, 9))


@pytest.mark.parametrize(
    ("mode", "sentence"),
    [
        ("missing", "has no file for 1 of 3 images"),
        ("colour", "is a RGB image"),
        ("size", "is 40x48 but its image"),
        ("range", "holds the labels [9]; 2 classes allow 0 to 2"),
        ("broken", "cannot be read"),
    ],
)
def test_a_wrong_prediction_is_refused_in_one_sentence(
    command: Command, image_set: Path, predictions: Path, mode: str, sentence: str
) -> None:
    path = predictions / "val_1.png"
    spoil(path, np.asarray(Image.open(path)), mode)
    code, shown, errors = command("evaluate", "--masks", predictions, "--images", f"folder:{image_set}")
    assert code == 2 and not shown
    assert sentence in errors and "val_1.png" in errors and errors.startswith("error: 1 problem in --masks")
    assert errors.partition("next: ")[0].count("\n") == 2


def test_all_wrong_predictions_are_told_before_any_is_scored(
    command: Command, image_set: Path, predictions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.cli.evaluate._evaluated", lambda *_: pytest.fail("scored"))
    for number, mode in enumerate(("missing", "size", "broken")):
        path = predictions / f"val_{number}.png"
        spoil(path, np.asarray(Image.open(path)), mode)
    _, _, errors = command("evaluate", "--masks", predictions, "--images", f"folder:{image_set}")
    assert "3 problems" in errors and all(f"val_{number}.png" in errors for number in range(3))


def test_a_missing_list_is_told_with_the_option_that_names_another(command: Command, image_set: Path, predictions: Path) -> None:
    words = ("--images", f"folder:{image_set}", "--masks", predictions, "--list", "nolist")
    assert "--list or, for a run, --set images.training=LIST" in command("evaluate", *words)[2]


def test_a_folder_of_predictions_that_is_not_there_is_named(command: Command, image_set: Path, tmp_path: Path) -> None:
    code, _, errors = command("evaluate", "--masks", tmp_path / "nowhere", "--images", f"folder:{image_set}")
    assert code == 2 and "nowhere: there is no such folder" in errors


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip the creation of MLflow's database, which takes seconds; test_track.py covers it."""
    monkeypatch.setattr(environment, "tracking", lambda: "not tried")


def test_a_healthy_machine_is_ready_and_nothing_is_left_behind(command: Command, quick: None, tmp_path: Path) -> None:
    code, shown, _ = command("doctor", "--store", tmp_path / "store")
    lines = shown.splitlines()
    assert code == 0 and lines[-1] == "ready" and all("ok" in line for line in lines[:-1])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("processor", "told"),
    [
        ("flags : fpu avx512f avx512_bf16", "CPU: in hardware; precision auto: bfloat16"),
        ("Features : asimd bf16", "CPU: in hardware; precision auto: bfloat16"),
        ("flags : fpu avx2 avx512f", "CPU: emulated, which is slower than float32; precision auto: float32"),
        (None, "CPU: unknown; precision auto: float32"),
    ],
)
def test_doctor_says_whether_the_processor_computes_in_bfloat16(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, processor: str | None, told: str
) -> None:
    path = tmp_path / "cpuinfo"
    if processor is not None:
        path.write_text(processor)
    monkeypatch.setattr(precision, "PROCESSOR", path)
    monkeypatch.setattr(precision, "gpus", lambda: 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert environment.bfloat16() == told


def test_a_failing_essential_check_ends_in_code_1_and_the_others_are_still_told(
    command: Command, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> str:
        raise ImportError("no module named pydensecrf")

    monkeypatch.setattr(environment, "crf", broken)
    code, shown, _ = command("doctor")
    assert code == 1 and "FAILED  ImportError: no module named pydensecrf" in shown
    assert "not ready: pydensecrf" in shown and "store       ok" in shown


def test_ray_and_mlflow_can_be_done_without(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> str:
        raise ImportError("not installed")

    for check in ("ray_import", "tracking"):
        monkeypatch.setattr(environment, check, absent)
    code, shown, _ = command("doctor")
    assert code == 0 and "--engine local runs without it" in shown and "--track none runs without it" in shown


@pytest.mark.slow
def test_doctor_starts_a_private_ray_and_a_database_when_asked_to(command: Command, tmp_path: Path) -> None:
    code, shown, _ = command("doctor", "--ray", "--store", tmp_path)
    assert code == 0 and "a task of a private Ray" in shown and "sqlite database" in shown


def test_a_store_that_cannot_be_written_to_is_not_ready() -> None:
    with pytest.raises(OSError):
        environment.storage(Path("/proc/self/nowhere"))


def test_names_are_shown_as_they_are(command: Command, image_set: Path, tmp_path: Path) -> None:
    """A terminal library would take [red] for a colour and :v: or :dog: for a small picture."""
    (image_set / "classes.txt").write_text("[red]disc\n:dog:\n")
    renamed = (image_set / "image_labels.txt").read_text().replace("disc", "[red]disc").replace("bar", ":dog:")
    (image_set / "image_labels.txt").write_text(renamed)
    code, shown, _ = command("images", "check", f"folder:{image_set}")
    assert code == 0 and "[red]disc" in shown and ":dog:" in shown
    code, _, errors = command("images", "check", "folder:v:x:")
    assert code == 2 and "v:x:" in errors


def test_a_setting_that_a_command_does_not_read_is_told(command: Command, image_set: Path, predictions: Path) -> None:
    images = f"folder:{image_set}"
    _, shown, _ = command("images", "check", images, "--set", "cam.epochs=3", "--set", "images.name=mine")
    assert "warning: this command does not read cam.epochs=3; it reads images.*" in shown and "images.name=mine" not in shown
    _, shown, _ = command("evaluate", "--masks", predictions, "--images", images, "--set", "cam.epochs=3")
    assert "does not read cam.epochs=3; it reads images.* and extraction.* and evaluation.*" in shown
    _, shown, _ = command("evaluate", "--masks", predictions, "--images", images, "--set", "evaluation.miou=truth")
    assert "warning" not in shown


def test_a_name_that_no_component_has_is_told(command: Command) -> None:
    assert command("ls", "lpcm")[0] == 2 and "did you mean 'lpcam'?" in command("ls", "lpcm")[2]
    assert command("ls", "x*")[0] == 2


def test_an_empty_list_is_one_problem_and_nothing_is_said_of_its_classes(command: Command, image_set: Path) -> None:
    (image_set / "ImageSets/Segmentation/train.txt").write_text("")
    code, shown, errors = command("images", "check", f"folder:{image_set}")
    assert code == 2 and "train.txt is empty" in errors and "list train" not in shown


def test_no_name_commands_the_terminal() -> None:
    name = "cat\x1b]0;title\x07\x1b[31m\x9b2J"
    console, made = terminal(), table("class")
    console.file = io.StringIO()
    made.add_row(name)
    made.add_row(Text(name))
    console.print(f"error: {name}")
    console.print(made)
    shown = console.file.getvalue()
    assert shown.count("cat]0;title[31m2J") == 3 and not any(sign in shown for sign in "\x1b\x07\x9b")


@pytest.mark.parametrize("width", [20, 40])
def test_a_terminal_too_narrow_for_a_table_loses_nothing_of_it(width: int) -> None:
    made = table("images of", ">a_list_with_a_long_name", ">val")
    made.add_row("without labels", "12", "345")
    console = Console(width=width, soft_wrap=True, file=io.StringIO())
    console.print(made)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert all(cell in shown for cell in ("images of", "a_list_with_a_long_name", "val", "without labels", "12", "345"))
