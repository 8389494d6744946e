"""Real launches in processes of their own, for the end-to-end tests."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

PROGRAM = Path(sys.executable).with_name("wsss-orch")
TINY = Path(__file__).with_name("tiny.yaml")
METHOD = "lpcam+amn"


def command(images: Path, store: Path | str, *options: str, method: str = METHOD) -> list[str]:
    """A launch of a small run on the image set at `images`."""
    return [
        *(str(PROGRAM), "launch", "--method", method, "--images", f"folder:{images}", "--recipe", str(TINY)),
        *(
            "--segmenter",
            "deeplabv2-small",
            "--set",
            "deeplabv2.crop=48",
            "--set",
            "deeplabv2.batch=2",
            "--set",
            "deeplabv2.iterations=10",
        ),
        *("--store", str(store), "--track", "none", *options),
    ]


def launch(
    images: Path, store: Path | str, *options: str, method: str = METHOD, cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a launch to its end."""
    words = command(images, store, *options, method=method)
    return subprocess.run(words, env=os.environ | environment, capture_output=True, text=True, cwd=cwd, timeout=600)


def finish(*arguments: Any, **keywords: Any) -> subprocess.CompletedProcess[str]:
    """Run a launch to its end; it must succeed."""
    done = launch(*arguments, **keywords)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def start(images: Path, store: Path | str, *options: str, method: str = METHOD) -> subprocess.Popen[str]:
    """Start a launch in a session of its own."""
    words = command(images, store, *options, method=method)
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 300) -> None:
    """Wait until `condition` holds; the process must not end before it does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, f"the launch ended early:\n{process.communicate()[0]}"
        assert time.monotonic() < deadline, "the launch never got there"
        time.sleep(0.005)


def under_way(store: Path, stage: str) -> bool:
    """Whether a stage has a checkpoint or a shard, but no manifest."""
    for folder in (store / "stages").glob(f"{stage}-*"):
        begun = (folder / "checkpoint.pt").exists() or any((folder / "shards").glob("[0-9]*.npz"))
        return begun and not (folder / "manifest.json").exists()
    return False


def kill(process: subprocess.Popen[str]) -> None:
    """SIGKILL to a launch and its process group."""
    with suppress(ProcessLookupError):  # it has ended by itself
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def manifests(store: Path) -> dict[str, dict]:
    """Every finished stage's manifest by name."""
    found = [json.loads(path.read_text()) for path in (store / "stages").glob("*/manifest.json")]
    return {manifest["stage"]: manifest for manifest in found}


def digests(store: Path) -> dict[str, str]:
    """The content digest of every finished stage's result."""
    return {name: manifest["digest"] for name, manifest in manifests(store).items()}
