"""Two commits side by side: the losses of every training at a tiny size, equal or where they first differ.

Run from the repository root: python -m benchmarks.same_losses COMMIT [--trainings cam,irn]   (ten minutes on one core)

The working tree is compared with COMMIT, which is unpacked into a temporary folder. A process in each of them launches every
training that its own tests/contracts/cases.py finds, add-ons included, on the same eight tiny images: three steps of all
images, one thread, float32. Losses must be equal to the last digit. Exit code 1: some differ, or a training failed in one commit.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

ROOT = Path(__file__).parents[1]
IMAGES, STEPS = 8, 3
Losses = list[dict[str, float]]  # of each step, by name
Found = Losses | str  # or why there are none


def unpack(commit: str, folder: Path) -> Path:
    """The files of a commit, in `folder`; SystemExit with git's words where there is no such commit."""
    archive = folder / "commit.tar"
    done = subprocess.run(["git", "archive", f"--output={archive}", commit], cwd=ROOT, capture_output=True, encoding="utf-8")
    if done.returncode:
        raise SystemExit(done.stderr.strip())
    tree = folder / "tree"
    tree.mkdir()
    subprocess.run(["tar", "-xf", archive, "-C", tree], check=True)
    if not (tree / "tests/contracts/cases.py").exists():
        raise SystemExit(f"{commit} has no tests/contracts/cases.py, which names the trainings; choose a later commit")
    return tree


def trainings(images: Path, wanted: Sequence[str]) -> Iterator[tuple[str, str, list[str]]]:
    """Name, stage and launch of every training that this process's tree has; of the components `wanted`, if any are."""
    from orchestrator.planning.recipes import load_all
    from tests.contracts.cases import every, tiny

    larger = {name.partition("=")[0] for name in tiny() if name.partition("=")[0].endswith((".batch", ".epochs"))}
    sizes = [f"{name}={IMAGES if name.endswith('batch') else STEPS}" for name in sorted(larger)]
    saliency = [f"images.saliency={images / 'Saliency'}"] if "saliency" in load_all()["images"].settings else []
    for case in every("train"):
        if not wanted or case.component in wanted:
            settings = [word for value in (*tiny(), *sizes, *saliency, *case.further) for word in ("--set", value)]
            words = ["--method", case.expression, "--segmenter", case.segmenter, "--until", case.stage.name, *settings]
            yield " ".join([case.name, *case.further]), case.stage.name, words


def child(images: Path, store: Path, wanted: Sequence[str]) -> None:
    """Launch the trainings of this process's tree, and print the losses of each as a line of JSON."""
    from orchestrator.cli import main as program

    fixed = ["--images", f"folder:{images}", "--engine", "local", "--track", "none"]
    for number, (name, stage, words) in enumerate(trainings(images, wanted)):
        own, told = store / str(number), StringIO()
        command = ["wsss-orch", "launch", *fixed, "--store", str(own), *words]
        try:
            with patch.object(sys, "argv", command), redirect_stdout(told), redirect_stderr(told):
                program()
        except SystemExit as ended:
            if ended.code:
                print(json.dumps([name, told.getvalue().strip().splitlines()[-1]]), flush=True)
                continue
        (history,) = own.glob(f"stages/{stage}-*/history.json")
        print(json.dumps([name, json.loads(history.read_text(encoding="utf-8"))]), flush=True)


def measured(tree: Path, images: Path, store: Path, wanted: Sequence[str]) -> subprocess.Popen[str]:
    """A process that prints the losses of all trainings of `tree`."""
    command = [sys.executable, "-P", __file__, "--child", str(images), str(store), "--trainings", ",".join(wanted)]
    return subprocess.Popen(
        command, cwd=tree, env={**os.environ, "PYTHONPATH": str(tree)}, stdout=subprocess.PIPE, encoding="utf-8"
    )


def losses_of(process: subprocess.Popen[str]) -> dict[str, Found]:
    """What such a process found, by training; SystemExit where it failed."""
    told, _ = process.communicate()
    if process.returncode:
        raise SystemExit("a process that trains has failed; what it printed stands above")
    return dict(json.loads(line) for line in told.splitlines())


def verdict(there: Found | None, here: Found | None) -> str:
    """`equal`, or how the losses of one training in another commit and in the working tree differ first."""
    if there is None or here is None:
        return "only here" if there is None else "only there"
    if isinstance(there, str) or isinstance(here, str):
        return " ".join(
            f"failed {place}: {found}" for place, found in (("there", there), ("here", here)) if isinstance(found, str)
        )
    for before, now in zip(there, here, strict=False):
        for name in sorted({*before, *now}):
            if before.get(name) != now.get(name):
                return f"step {now['epoch']}, {name}: {before.get(name, 'none')} there, {now.get(name, 'none')} here"
    return "equal" if len(there) == len(here) else f"{len(there)} steps there, {len(here)} here"


def compare(there: Mapping[str, Found], here: Mapping[str, Found]) -> int:
    """Print a line for each training; the number of those that two commits both have and that are not equal."""
    verdicts = {name: verdict(there.get(name), here.get(name)) for name in sorted({*there, *here})}
    width = max(map(len, verdicts), default=0)
    for name, told in verdicts.items():
        print(f"{name:{width}}  {told}")
    return sum(told != "equal" and not told.startswith("only") for told in verdicts.values())


def main() -> None:
    """Train in both trees at once and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("commit", nargs="?", help="what the working tree is compared with")
    parser.add_argument(
        "--trainings", type=lambda text: [name for name in text.split(",") if name], default=[], help="of these components only"
    )
    parser.add_argument("--child", nargs=2, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        images, store = options.child
        child(images, store, options.trainings)
        return
    if not options.commit:
        parser.error("name the commit that the working tree is compared with")
    from tests.contracts.images import write_images

    with TemporaryDirectory() as folder:
        place = Path(folder)
        tree = unpack(options.commit, place)
        images = write_images(place / "images", ["red", "blue"])
        runs = [measured(own, images, place / name, options.trainings) for name, own in (("there", tree), ("here", ROOT))]
        sys.exit(compare(*map(losses_of, runs)) > 0)


if __name__ == "__main__":
    main()
