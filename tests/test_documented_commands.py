"""Every command in README, docs, help pages and manifests is understood; launches and sweeps are planned."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import typer

from imagesets.coco_preparation import prepare_coco14
from imagesets.voc12 import CLASSES as VOC_CLASSES
from orchestrator.cli import app, launch, table
from orchestrator.planning.experiment import Request
from orchestrator.planning.settings_file import commented_settings
from orchestrator.sweeps.axes import split
from orchestrator.sweeps.sweep import Sweep
from tests.coco_images import write_coco
from tests.conftest import Command, write_image_set

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
GROUP: Any = typer.main.get_command(app)
IMAGES = 64  # of each list: more than any batch


def of_page(text: str) -> Iterator[str]:
    """The commands of a page: in blocks (also within a line of shell), in manifests, and between backticks."""
    joined = re.sub(r"\\\n\s*", " ", text)
    for line in joined.splitlines():
        if re.match(r" {4}|  entrypoint: ", line) and (found := re.search(r"(?<![/.\w-])wsss-orch (.*)", line)):
            yield re.split(r"\s#|\s\[#|'$", found[1])[0].strip()
    yield from re.findall(r"`wsss-orch ((?:launch|sweep|table|submit|evaluate|export|doctor|clean) [^`]+)`", joined)


def of_help(name: str, command: Any) -> Iterator[str]:
    """The examples at the end of a command's help."""
    for paragraph in re.split(r"\n\s*\n", (command.help or "").partition("Examples:")[2]):
        words = " ".join(paragraph.split())
        if words.startswith("wsss-orch "):
            yield words.removeprefix("wsss-orch ")
    for below, nested in getattr(command, "commands", {}).items():
        yield from of_help(f"{name} {below}", nested)


FOUND = [*(command for page in PAGES for command in of_page(page.read_text())), *of_help("", GROUP)]
COMMANDS = sorted({line for line in FOUND if line and "install" not in line and "NAME" not in line})
PLANNED = [line for line in COMMANDS if re.match(r"(submit .*)?(launch|sweep|table) ", line)]


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Tiny image sets, files and folders in place of those that the pages name."""
    root = tmp_path_factory.mktemp("documented")
    folder = write_image_set(root / "folder", train=IMAGES)
    voc = write_image_set(root / "VOC2012", train=IMAGES)
    labels = (voc / "image_labels.txt").read_text()
    (voc / "image_labels.txt").write_text(labels.replace("disc", VOC_CLASSES[0]).replace("bar", VOC_CLASSES[1]))
    for images, name in ((folder, "train_small"), (folder, "masked"), (voc, "train_aug")):
        lists = images / "ImageSets/Segmentation"
        (lists / f"{name}.txt").write_text((lists / "train.txt").read_text())
    coco = write_coco(root / "coco", train=IMAGES, val=IMAGES)
    prepare_coco14(str(coco), {"rule": "recam"})
    (root / "MAPS").mkdir()
    (root / "settings.yaml").write_text(commented_settings())
    torch.save({}, root / "weights.pth")
    return {"folder": folder, "voc12": voc, "coco14": coco, "root": root}


def filled(line: str, given: dict[str, Path]) -> list[str]:
    """The words of a command, with the tiny files in place of those that the page names."""
    line = line.replace("METHOD", "cam+irn").replace(" ...", f" --images folder:{given['folder']} --recipe laptop")
    line = re.sub(r"(voc12|coco14|folder):\S+", lambda kind: f"{kind[1]}:{given[kind[1]]}", line)
    line = re.sub(
        r"(weights=)PATH|(--network-from )FILE", lambda option: f"{option[1] or option[2]}{given['root'] / 'weights.pth'}", line
    )
    line = re.sub(r"(cda\.bank=)PATH", lambda option: f"{option[1]}{given['root'] / 'MAPS'}", line)
    line = line.replace("pets/settings.yaml", str(given["root"] / "settings.yaml"))
    line = re.sub(r"--saliency \S+", f"--saliency {given['root'] / 'MAPS'}", line)
    line = re.sub(r"--(maps|masks)-from \w+", lambda option: f"--{option[1]}-from {given['root'] / 'MAPS'}", line)
    line = re.sub(r"--store \S+", "--store store", line)
    return shlex.split(line)


def parsed(words: list[str]) -> dict[str, Any]:
    """The options of a command, by its own parser."""
    command = GROUP
    while words and words[0] in getattr(command, "commands", {}):
        command, words = command.commands[words[0]], words[1:]
    return dict(command.make_context("it", list(words)).params)


def test_the_pages_have_commands_of_every_kind() -> None:
    kinds = {line.split()[0] for line in COMMANDS}
    assert kinds >= {"launch", "sweep", "submit", "compare", "export", "doctor", "images", "track", "logs", "evaluate"}
    assert len(PLANNED) > 25
    assert any("training.workers=16" in line for line in PLANNED) and any("--recipe laptop" in line for line in PLANNED)


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_is_understood(line: str, given: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    parsed(filled(line, given))


@pytest.mark.parametrize("line", [line for line in PLANNED if "sweep " not in line])
def test_every_launch_is_planned(line: str, given: dict[str, Path], command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    # the files that a page names are stand-ins here: what they hold fits no network
    for made in (launch, table):
        monkeypatch.setattr(made, "check_imports", lambda *_: None)
        monkeypatch.setattr(made, "weights_problems", lambda *_, **__: [])
    words = filled(line, given)
    words = parsed(words)["words"] if words[0] == "submit" else words
    code, shown, errors = command(*words, "--plan")
    assert code == 0 and "will run" in shown, errors


@pytest.mark.parametrize("line", [line for line in PLANNED if "sweep " in line])
def test_every_sweep_is_one_whose_trials_run(
    line: str, given: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    words = filled(line, given)
    options = parsed(parsed(words)["words"] if words[0] == "submit" else words)
    request = Request(options["method"], options["images"], assignments=tuple(options["assign"]), store=tmp_path)
    how = {name: options[name] for name in ("trials", "until", "search", "by", "stop_early")}
    sweep = Sweep(request, *split(options["vary"]), [0], **how)
    sweep.check()
    sweep.refuse({"train": IMAGES, "val": IMAGES})
