"""What one node of a cluster has and sees.

These functions need only the standard library, and pyarrow for a store on S3. They are sent whole to the nodes, with the
constants that they read, because some nodes may have another version of this project or none.
"""

import hashlib
import os
import platform
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from orchestrator.engine.provenance import PACKAGES
from orchestrator.planning.code_version import PACKAGES as SCIENCE

ROOMS = ("orchestrator", *SCIENCE, "recipes")  # the project's folders that a job needs
KINDS = (".py", ".yaml", ".j2", ".css", ".js")  # suffixes of the project's files
SHOWN = ("ray", "torch", "wsss-orch")  # shown in the table of nodes
ASKED = "asked.txt"  # the name of the driver's marker in a folder of the store


def code_files(root: Path) -> Iterator[Path]:
    """The project's files below the folder that holds its packages, relative to it, in order."""
    found = (path.relative_to(root) for room in ROOMS for path in (root / room).rglob("*"))
    return iter(sorted(path for path in found if path.suffix in KINDS))


def code_version(root: Path) -> str:
    """Hash of the project's files below `root`; it changes with any of them."""
    whole = hashlib.blake2b(digest_size=4)
    for path in code_files(root):
        whole.update(f"{path.as_posix()}\n{hashlib.blake2b((root / path).read_bytes()).hexdigest()}\n".encode())
    return whole.hexdigest()


def look(place: str, s3: dict[str, Any] | None, token: str, answer: str) -> dict[str, Any]:
    """What this node has, and whether it sees the driver's `token` in `place` of the store. It writes `answer` there.

    `s3` has pyarrow's options for the server of `place`, None for a folder.
    """
    return {
        "host": socket.gethostname(),
        "python": platform.python_version(),
        "packages": packages(),
        "code": _code(),
        "cpus": os.cpu_count(),
        "gpus": _gpus(),
        "free": _free(Path(place) if s3 is None else _cache()),
        "clock": time.time(),
        "store": _trouble(place, s3, token, answer),
    }


def packages() -> dict[str, str]:
    """The version of each of PACKAGES, "" if it is not installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = ""
    return found


def _code() -> str:
    spec = find_spec("orchestrator")
    return code_version(Path(spec.origin).parents[1]) if spec and spec.origin else ""


def _gpus() -> list[tuple[str, int]]:
    """Name and memory (MiB) of every GPU of the machine, [] without a driver. (Ray hides GPUs from a task without any.)"""
    query = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        shown = subprocess.run(query, capture_output=True, encoding="utf-8", errors="replace", timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    rows = (line.rsplit(",", 1) for line in shown.splitlines() if "," in line)
    return [(name.strip(), int(memory)) for name, memory in rows]


def _cache() -> Path:
    """This node's folder for mirrors of stores on S3."""
    return Path(os.environ.get("WSSS_ORCH_MIRRORS") or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def _free(folder: Path) -> int:
    """Free bytes on the disk of a folder, which need not exist yet."""
    return shutil.disk_usage(next(there for there in (folder, *folder.parents) if os.path.isdir(there))).free


def _trouble(place: str, s3: dict[str, Any] | None, token: str, answer: str) -> str:
    """Read the driver's marker and write this node's; returns what went wrong, or ""."""
    try:
        with _opened(f"{place}/{ASKED}", s3) as file:
            if file.read() != token.encode():
                return "another marker than the driver's is there"
        with _opened(f"{place}/{answer}", s3, write=True) as file:
            file.write(token.encode())
    except FileNotFoundError:
        return "what the driver has written there is not there"
    except (OSError, ImportError, TypeError) as error:  # TypeError: an older pyarrow lacks an option
        return getattr(error, "strerror", None) or " ".join(str(error).split())
    return ""


def _opened(path: str, s3: dict[str, Any] | None, write: bool = False) -> Any:
    if s3 is None:
        return open(path, "wb" if write else "rb")
    from pyarrow.fs import S3FileSystem

    files = S3FileSystem(**s3)
    return files.open_output_stream(path) if write else files.open_input_file(path)
