"""The code that is sent with a job: only this project's own files, no data, stores, environments or other files."""

import shutil
from pathlib import Path

from imagesets.errors import WrongInput
from orchestrator.cluster.probe import ROOMS, code_files

LIMIT = 100 << 20  # bytes that Ray's job server takes in one request, although its warning says 512 MiB
MEBIBYTE = 1 << 20
ROOT = Path(__file__).parents[2]  # the folder that holds the packages: a checkout, or site-packages


def stage(folder: Path, commit: str, root: Path = ROOT, limit: int = LIMIT) -> list[str]:
    """Copy the code into `folder`, with its commit, because the copy is no git repository; returns packages for `py_modules`.

    Raises WrongInput if the code is larger than Ray takes.
    """
    files = list(code_files(root))
    _check_size({path: (root / path).stat().st_size for path in files}, limit)
    for path in files:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / path, folder / path)
    (folder / "orchestrator" / "COMMIT").write_text(commit, encoding="utf-8")
    return [str(folder / room) for room in ROOMS]


def _check_size(sizes: dict[Path, int], limit: int) -> None:
    total = sum(sizes.values())
    if total > limit:
        largest = max(sizes, key=lambda path: sizes[path])
        raise WrongInput(
            f"the code to be sent has {total / MEBIBYTE:.1f} MiB and Ray takes {limit / MEBIBYTE:.1f} MiB; the largest file is "
            f"{largest} with {sizes[largest] / MEBIBYTE:.1f} MiB; --installed sends no code"
        )
