"""What a result was made with: versions of packages and of this code."""

import subprocess
from importlib import metadata
from pathlib import Path

PACKAGES = ("wsss-orch", "torch", "torchvision", "ray", "numpy", "opencv-python-headless", "pydensecrf2")


def versions() -> dict[str, str]:
    """Versions of the packages that results depend on; those not installed are left out."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def git_commit() -> str:
    """The commit of this checkout, with + where files differ from it; a copy on a cluster carries it; empty elsewhere."""
    here = Path(__file__).parent
    if (carried := here.parent / "COMMIT").is_file():
        return carried.read_text(encoding="utf-8")
    try:
        shown = subprocess.run(
            ["git", "describe", "--always", "--dirty=+"], cwd=here, capture_output=True, encoding="utf-8", timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return shown.stdout.strip()
