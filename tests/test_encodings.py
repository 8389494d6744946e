"""Text files are UTF-8 whatever the locale."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.launching import PROGRAM

ROOT = Path(__file__).parents[1]
MODE = re.compile(r"[rwax][bt]?\+?")


def ours() -> Iterator[Path]:
    """Every source file except the tests, whose texts are ASCII."""
    for path in sorted(ROOT.glob("*/**/*.py")):
        if path.relative_to(ROOT).parts[0] not in ("tests", "build") and not path.relative_to(ROOT).parts[0].startswith("."):
            yield path


def without_encoding(source: str) -> list[str]:
    """The calls that read or write text in the locale's encoding."""
    calls = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    return [ast.unparse(call) for call in calls if _is_text(call) and not _names(call, "encoding")]


def _is_text(call: ast.Call) -> bool:
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    if name not in ("open", "fdopen"):
        return name in ("read_text", "write_text", "FileHandler") or _names(call, "text")
    constants = [part.value for argument in call.args for part in ast.walk(argument) if isinstance(part, ast.Constant)]
    modes = [constant for constant in constants if isinstance(constant, str) and MODE.fullmatch(constant)]
    if name == "open" and isinstance(call.func, ast.Name):
        return not any("b" in mode for mode in modes)  # without a mode it reads text
    return any("b" not in mode for mode in modes) or _names(call, "text")


def _names(call: ast.Call, argument: str) -> bool:
    return any(keyword.arg == argument for keyword in call.keywords)


@pytest.mark.parametrize(
    "call",
    [
        "path.read_text()",
        "path.write_text(x)",
        "open(path)",
        "open(path, 'a')",
        "path.open('w')",
        "os.fdopen(1, 'w')",
        "logging.FileHandler(path)",
        "run(a, text=True)",
    ],
)
def test_a_call_that_leaves_the_encoding_to_the_locale_is_found(call: str) -> None:
    assert without_encoding(call) == [call]
    assert without_encoding(call.replace(")", ", encoding='utf-8')").replace("(, ", "(")) == []


@pytest.mark.parametrize("call", ["open(path, 'rb')", "path.open('wb')", "Image.open(path)", "store.open()"])
def test_what_reads_or_writes_no_text_needs_no_encoding(call: str) -> None:
    assert without_encoding(call) == []


def test_every_text_file_is_read_and_written_with_its_encoding_named() -> None:
    found = {str(path.relative_to(ROOT)): without_encoding(path.read_text(encoding="utf-8")) for path in ours()}
    assert len(found) > 100
    assert {path: calls for path, calls in found.items() if calls} == {}


def test_commands_work_where_the_locale_is_not_utf_8(image_set: Path, tmp_path: Path) -> None:
    (image_set / "classes.txt").write_text("dîsc\nbar\n", encoding="utf-8")
    labels = (image_set / "image_labels.txt").read_text(encoding="utf-8")
    (image_set / "image_labels.txt").write_text(labels.replace("disc", "dîsc"), encoding="utf-8")
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONPATH": str(ROOT)}
    for name in ("JPEGImages/train_0.png", "SegmentationClass/train_0.png"):
        (image_set / name).rename(image_set / name.replace("train_0", "trän_0"))
    for name in ("image_labels.txt", "ImageSets/Segmentation/train.txt"):
        text = (image_set / name).read_text(encoding="utf-8")
        (image_set / name).write_text(text.replace("train_0", "trän_0"), encoding="utf-8")
    for words in (["ls"], ["show", "crf"], ["images", "check", f"folder:{image_set}", "--store", str(tmp_path)]):
        command = [sys.executable, "-m", "orchestrator", *words]
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, encoding="ascii", check=False)
        assert done.returncode == 0, done.stderr
    assert "d?sc" in done.stdout


ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def test_names_are_utf8_whatever_the_locale(image_set: Path, tmp_path: Path) -> None:
    """In an ASCII locale Python reads an é as two half characters, which no list names and no page can hold."""
    images = image_set.rename(tmp_path / "café")
    for path in (images / "JPEGImages").glob("train_0*"):
        path.rename(path.with_name(f"ü{path.suffix}"))
    lists = (images / "ImageSets/Segmentation/train.txt", images / "image_labels.txt")
    for path in lists:
        path.write_text(path.read_text().replace("train_0", "ü"), encoding="utf-8")
    (images / "SegmentationClass/train_0.png").rename(images / "SegmentationClass/ü.png")
    words = ("images", "show", f"folder:{images}", "--output", str(images / "è.png"))
    ended = subprocess.run([PROGRAM, *words], env={**os.environ, **ASCII}, capture_output=True, encoding="utf-8", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert (images / "è.png").is_file() and "6 of the 6 images" in ended.stdout
    assert "caf?" in ended.stdout  # what that terminal can show


def test_a_path_that_is_not_utf8_is_refused_at_once(tmp_path: Path) -> None:
    words = [str(PROGRAM).encode(), b"images", b"check", b"folder:caf\xe9"]
    ended = subprocess.run(words, capture_output=True, encoding="utf-8", cwd=tmp_path)
    assert ended.returncode == 2 and "folder:caf? is not UTF-8; rename that file or folder" in ended.stderr
