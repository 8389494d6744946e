"""Every stage on a GPU: its images a second beside those of its bare network, its memory, and how long the GPU is idle.

Run from the repository root: python -m benchmarks.gpu [--precision bfloat16] [--graphs] [--methods lpcam+amn,advcam]
(some minutes, most of them on CPU cores; with one method about half)

It needs neither Ray nor MLflow nor data. Real launches (`--engine local --track none`) of `lpcam+amn` with DeepLabV2 and of
AdvCAM (two iterations) run on synthetic images of 375x500, with networks of full size without weights. Predictions are made
without their CRF, which is CPU work. The rate of a stage is taken between the first progress note or shard after a quarter of its
images and the last, which leaves its start out; a stage of one shard (LPCAM's prototypes) has its manifest's seconds less the
start of the others. The bare network computes one batch that stays on the card, in the same precision, with cuDNN's fastest
algorithms: forward for extraction; forward, backward and step for training. Idle is what nvidia-smi tells in the same seconds.
`--graphs` records heavy parts as CUDA graphs in training; the bare network's kernels always start one by one. `--device cpu` runs
a tiny configuration, which shows that the benchmark works and nothing else.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.gpu_bare import extracted, trained
from benchmarks.gpu_images import write_images
from orchestrator.storage.place import PROGRESS
from orchestrator.storage.shards import SHARD
from orchestrator.storage.store import read_manifest

GOAL = 85  # per cent of the bare network
TRAININGS = ("cam-network", "amn-network", "irn-network", "deeplabv2-segmenter")
EXTRACTIONS = {  # by the stage whose network they read
    "cam-maps": "cam-network",
    "lpcam-prototypes": "cam-network",
    "lpcam-maps": "cam-network",
    "amn-maps": "amn-network",
    "irn-masks": "irn-network",
    "deeplabv2-predictions": "deeplabv2-segmenter",
    "advcam-maps": "cam-network",
}
LAUNCHES = {"lpcam+amn": "deeplabv2-predictions", "advcam": "advcam-maps"}  # the last stage of each method
SAMPLE = 0.1  # seconds between two samples of the GPU, and two looks at the progress of a training

Moment = tuple[float, float]  # time (s since 1970), and images done by then


@dataclass(frozen=True)
class Configuration:
    """What runs: the images of each list, their size, and settings."""

    images: dict[str, int]
    size: tuple[int, int]
    settings: dict[str, str]


SET = {
    **{"backbone.weights": "none", "deeplabv2.weights": "none", "lpcam.prototype_probability": "0"},
    **{"deeplabv2.crf": "none", "crf.parameters": "hfpl"},  # the labels are not measured; one iteration is quick
}
LONGER = {"cam.epochs": "16", "amn.epochs": "12", "irn.epochs": "16", "deeplabv2.iterations": "80"}  # some seconds each
FULL = Configuration({"train": 96, "val": 64}, (375, 500), {**SET, **LONGER, "advcam.iterations": "2"})
TINY_SETTINGS = {
    **{"backbone.name": "small", "deeplabv2.backbone": "small", "deeplabv2.msc": "false", "deeplabv2.rates": "[1,2]"},
    **{f"{part}.crop": "48" for part in ("cam", "amn", "deeplabv2")},
    **{f"{part}.scales": "[1.0,0.5]" for part in ("cam", "lpcam", "amn", "advcam")},
    **{f"{part}.batch": "4" for part in ("cam", "amn", "irn", "deeplabv2")},
    **{f"{part}.epochs": "1" for part in ("cam", "amn", "irn")},
    **{"irn.crop": "96", "cam.long_side": "[40,56]", "lpcam.clusters": "2"},
    **{"deeplabv2.iterations": "8", "deeplabv2.test_scales": "[1.0]", "advcam.iterations": "2"},
}
TINY = Configuration({"train": SHARD + 8, "val": SHARD + 8}, (48, 64), {**SET, **TINY_SETTINGS})


@dataclass
class Watch:
    """What was seen while launches ran: each stage folder's progress in training, and the GPU's use in per cent."""

    progress: dict[Path, list[Moment]] = field(default_factory=dict)
    use: list[tuple[float, float]] = field(default_factory=list)


def main() -> None:
    """Prints one table, row by row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--graphs", action="store_true")
    parser.add_argument("--methods", default=",".join(LAUNCHES))
    asked = parser.parse_args()
    methods = asked.methods.split(",")
    if unknown := set(methods) - set(LAUNCHES):
        parser.error(f"no method {', '.join(sorted(unknown))}; there are {', '.join(LAUNCHES)}")
    if asked.device == "cuda" and not torch.cuda.is_available():
        print("torch finds no GPU on this machine; --device cpu runs a tiny configuration", file=sys.stderr)
        sys.exit(2)
    configuration, device = (FULL, torch.device("cuda:0")) if asked.device == "cuda" else (TINY, torch.device("cpu"))
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder, "store")
        images = write_images(Path(folder, "images"), configuration.images, configuration.size)
        print(f"{'stage':24}{'images/s':>10}{'bare':>10}{'share':>8}{'memory':>10}{'idle':>7}")
        reported: set[str] = set()
        for method in methods:
            with watched(store, device) as watch:
                launch(images, store, method, configuration, asked, device)
            reported |= report(store, watch, configuration, device, reported)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU, tiny networks: no figure means anything"
    graphs = ", with graphs" if asked.graphs else ""
    print(f"goal: {GOAL}% of the bare network; {asked.precision}{graphs}; {name}; torch {torch.__version__}")


def launch(
    images: Path, store: Path, method: str, configuration: Configuration, asked: argparse.Namespace, device: torch.device
) -> None:
    """Run a method up to its last stage here, in a process of its own."""
    given = {
        **configuration.settings,
        "training.workers": "1",
        "training.precision": asked.precision,
        "training.graphs": str(asked.graphs).lower(),
        "extraction.precision": asked.precision,
    }
    words = [sys.executable, "-m", "orchestrator", "launch", "--method", method, "--segmenter", "deeplabv2-resnet101"]
    words += ["--images", f"folder:{images}", "--engine", "local", "--track", "none", "--store", str(store)]
    words += ["--until", LAUNCHES[method]]
    words += [word for name, value in given.items() for word in ("--set", f"{name}={value}")]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""} if device.type == "cpu" else None
    done = subprocess.run(words, env=environment, capture_output=True, encoding="utf-8")
    if done.returncode:
        sys.exit(f"{' '.join(words)}\n{done.stdout}{done.stderr}")


@contextmanager
def watched(store: Path, device: torch.device) -> Iterator[Watch]:
    """Watch the trainings of a store, and the GPU, during the block."""
    watch, over = Watch(), threading.Event()
    threads = [threading.Thread(target=_follow_progress, args=(store, watch, over))]
    if device.type == "cuda" and shutil.which("nvidia-smi"):
        threads.append(threading.Thread(target=_sample_use, args=(watch, over)))
    for thread in threads:
        thread.start()
    try:
        yield watch
    finally:
        over.set()
        for thread in threads:
            thread.join()


def _follow_progress(store: Path, watch: Watch, over: threading.Event) -> None:
    while not over.wait(SAMPLE):
        for file in store.glob(f"stages/*/{PROGRESS}"):
            with suppress(FileNotFoundError):  # a stage that begins removes it
                moment = file.stat().st_mtime, json.loads(file.read_text(encoding="utf-8"))["step"]
                seen = watch.progress.setdefault(file.parent, [])
                if not seen or seen[-1][1] < moment[1]:
                    seen.append(moment)


def _sample_use(watch: Watch, over: threading.Event) -> None:
    card = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0] or "0"
    query = ["nvidia-smi", f"--id={card}", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
    while not over.wait(SAMPLE):
        share = float(subprocess.run(query, check=True, capture_output=True, encoding="utf-8").stdout)
        watch.use.append((time.time(), share))


def report(store: Path, watch: Watch, configuration: Configuration, device: torch.device, reported: Collection[str]) -> set[str]:
    """Measure the bare networks of the stages that are not yet `reported` and print their rows; returns their names."""
    folders = {
        found["stage"]: path.parent for path in store.glob("stages/*/manifest.json") if (found := read_manifest(path.parent))
    }
    manifests = {stage: read_manifest(folder) or {} for stage, folder in folders.items()}
    stages = [stage for stage in (*TRAININGS, *EXTRACTIONS) if stage in folders and stage not in reported]
    moments = {stage: seen(folders[stage], manifests[stage], watch) for stage in stages}
    starts = [start_up(manifests[stage], moments[stage]) for stage in stages if stage in EXTRACTIONS]
    start = median(known) if (known := [own for own in starts if own is not None]) else 0.0
    torch.backends.cudnn.benchmark = True
    torch.set_num_threads(1)  # as in stages
    for stage in stages:
        own = rate(manifests[stage], moments[stage], start)
        if stage in TRAININGS:
            bare = trained(manifests[stage], device)
        else:
            bare = extracted(manifests[EXTRACTIONS[stage]], manifests[stage], configuration.size, device)
        memory = f"{(manifests[stage]['gpu_memory'] or 0) / 1e9:.1f} GB"
        idle = _idle(manifests[stage], moments[stage], watch)
        print(f"{stage:24}{own:10.1f}{bare:10.1f}{100 * own / bare:7.0f}%{memory:>10}{idle:>7}", flush=True)
    if device.type == "cuda":
        torch.cuda.empty_cache()  # the next launch is another process
    return set(stages)


def seen(folder: Path, manifest: dict[str, Any], watch: Watch) -> list[Moment]:
    """When how many images of a stage were done: at the notes of its progress, or at its shards.

    The first quarter of the images is left out: it shows the start, and batches that were loaded during the start.
    """
    if folder in watch.progress:
        batch = manifest["identity"]["settings"]["batch"]
        moments = [(when, step * batch) for when, step in watch.progress[folder]]
    else:
        *earlier, last = sorted(path.stat().st_mtime for path in folder.glob("shards/*.npz"))
        moments = [*((when, SHARD * number) for number, when in enumerate(earlier, start=1)), (last, manifest["items"])]
    return [moment for moment in moments if moment[1] >= moments[-1][1] / 4]


def rate(manifest: dict[str, Any], moments: list[Moment], start: float) -> float:
    """Images a second after the start of a stage."""
    if len(moments) < 2:
        return moments[-1][1] / max(manifest["wall"] - start, 1e-9)
    (began, before), (ended, after) = moments[0], moments[-1]
    return (after - before) / (ended - began)


def start_up(manifest: dict[str, Any], moments: list[Moment]) -> float | None:
    """Seconds from a stage's beginning to its first image, if it has shards enough to tell."""
    if len(moments) < 2:
        return None
    (first, images), began = moments[0], manifest["finished"] - manifest["wall"]
    return max(first - began - images / rate(manifest, moments, 0.0), 0.0)


def _idle(manifest: dict[str, Any], moments: list[Moment], watch: Watch) -> str:
    first = moments[0][0] if len(moments) > 1 else manifest["finished"] - manifest["wall"]
    used = [share for when, share in watch.use if first <= when <= moments[-1][0]]
    return f"{100 - sum(used) / len(used):.0f}%" if used else "-"


if __name__ == "__main__":
    main()
