"""`wsss-orch table` end to end: rows are one launch, a failed row is marked and the others go on, the same command continues."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from methods import recam
from tests.conftest import Command
from tests.launching import PROGRAM, TINY, kill, manifests, wait_for

pytestmark = pytest.mark.slow
BCE, W, SUM = "BCE alone", "ReCAM, w (first classifier)", "ReCAM, w + w'"


def words(images: Path, store: Path, *more: str) -> list[str]:
    """The words of a table of three rows; two share a network."""
    rows = [word for label in (BCE, W, SUM) for word in ("--rows", label)]
    given = ["--images", f"folder:{images}", "--recipe", str(TINY), "--store", str(store), "--track", "none"]
    return ["table", "recam-1", *rows, *given, *more]


def broken(calls: list[str]) -> Callable[..., object]:
    def maps(context: object) -> object:
        calls.append("maps")
        raise RuntimeError("the maps broke")

    return maps


def test_a_failed_row_is_marked_the_others_go_on_and_the_command_continues(
    command: Command, image_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = words(image_set, tmp_path / "store", "--engine", "local", "--set", "training.workers=1", "--to", "table.md")
    calls: list[str] = []
    with monkeypatch.context() as patched:
        patched.setattr(recam, "maps", broken(calls))
        code, shown, _ = command(*given)
    assert code == 1 and calls  # both rows of ReCAM need their own maps
    assert "failed" in shown and "random seed 0 failed: RuntimeError: the maps broke (in stage recam-maps" in shown
    (bce,) = [line for line in shown.splitlines() if line.startswith(f" {BCE} ")]
    assert bce.split()[2] == "1" and bce.split()[-1] == "48.8"  # one run, and the published value
    assert len([path for path in (tmp_path / "store/runs").iterdir() if (path / "results.json").exists()]) == 1

    code, shown, _ = command(*given)
    assert code == 0 and f"cam-network [{BCE}]: cached" in shown and " failed: " not in shown
    results = [json.loads(path.read_text()) for path in (tmp_path / "store/runs").glob("*/results.json")]
    by_weights = {
        run["settings"]["recam.weights"]: run["rows"][-1]["metrics"]["miou"] for run in results if run["method"] == "recam"
    }
    (told,) = [line for line in shown.splitlines() if line.startswith(f" {SUM} ")]
    assert f"{100 * by_weights['sum']:.1f}" in told.split() and set(by_weights) == {"w", "sum"}
    assert "| not run |" in (tmp_path / "table.md").read_text() and "*48.8*" in (tmp_path / "table.md").read_text()
    (page,) = (tmp_path / "store/reports").glob("recam-1-voc12-*/table.html")
    assert page.read_text().count('"pictures"') > 1

    code, shown, _ = command(*given)
    assert code == 0 and "nothing to do: all" in shown and f"{100 * by_weights['sum']:.1f}" in shown


def test_a_killed_table_continues_with_what_it_has(image_set: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    given = [str(PROGRAM), *words(image_set, store, "--engine", "local")]
    process = subprocess.Popen(given, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)
    wait_for(lambda: "cam-network" in manifests(store), process)
    kill(process)
    made = manifests(store)["cam-network"]["finished"]
    ended = subprocess.run(given, capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0, ended.stderr
    assert f"cam-network [{BCE}]: cached" in ended.stdout and manifests(store)["cam-network"]["finished"] == made
    assert sum(name.startswith("recam-maps-score") for name in manifests(store)) == 1 and "not run" in ended.stdout
