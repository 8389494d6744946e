"""What a result was made with: this machine, the versions of packages, and the commit of this code."""

import socket
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from orchestrator.cores import cores

OPENCV = ("opencv-python-headless", "opencv-python")  # two builds; a machine has one of them
# the packages that results depend on
PACKAGES = ("wsss-orch", "torch", "torchvision", "timm", "ray", "numpy", "scipy", "pillow", *OPENCV, "pydensecrf2")


def circumstances() -> dict[str, Any]:
    """The entries of a manifest on the machine and the software."""
    import torch  # here, because `doctor` must report a torch that cannot be imported

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    here = {"host": socket.gethostname(), "cores": cores(), "device": device}
    return {**here, "versions": versions(), "commit": git_commit()}


@cache  # reading them takes longer than a small stage
def versions() -> dict[str, str]:
    """Versions of PACKAGES, without those that are not installed."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


@cache  # the code that runs is that of the start, and git takes longer than a small stage
def git_commit() -> str:
    """The commit of this checkout, with + if files differ from it. Code sent to a cluster carries it; "" if unknown."""
    package = Path(__file__).parents[1]
    if (carried := package / "COMMIT").is_file():
        return carried.read_text(encoding="utf-8")
    checkout = package.parent
    if not (checkout / ".git").exists():
        return ""  # git would find the repository that a virtual environment lies in
    try:
        shown = subprocess.run(
            ["git", "describe", "--always", "--dirty=+"], cwd=checkout, capture_output=True, encoding="utf-8", timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return shown.stdout.strip()
