"""The code that travels with a job: this project's own files, never data, stores, environments or what else lies beside them."""

import shutil
from pathlib import Path

from imagesets.errors import WrongInput
from orchestrator.cluster.probe import ROOMS, code_files

LIMIT = 100 << 20  # bytes that Ray's job server takes in one request, whatever its warning about 512 MiB says
MEGABYTE = 1 << 20
ROOT = Path(__file__).parents[2]  # the folder that holds the packages: a checkout, or site-packages


def stage(folder: Path, commit: str, root: Path = ROOT, limit: int = LIMIT) -> list[str]:
    """Copy the code into `folder`, with the commit that a copy can no longer ask git for; its packages, for Ray's `py_modules`.

    Raises WrongInput where it is larger than Ray takes.
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
            f"the code to be sent has {total / MEGABYTE:.1f} MiB and Ray takes {limit / MEGABYTE:.1f} MiB; the largest file is "
            f"{largest} with {sizes[largest] / MEGABYTE:.1f} MiB; --installed sends none"
        )
