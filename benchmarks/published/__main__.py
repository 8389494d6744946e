"""The command: measures stages and prints a line for each."""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import torch

from benchmarks.published import affinitynet, amn, cam, crf, deeplab, irn, lpcam, mctformer, sweep
from benchmarks.published.bench import Bench
from benchmarks.published.rounds import PRECISIONS, PUBLISHED, Row, Stage, measure

STAGES: Mapping[str, Callable[[Bench], Stage]] = {
    "cam-maps": cam.maps,
    "lpcam-maps": lpcam.maps,
    "amn-maps": amn.maps,
    "irn-boundaries": irn.boundaries,
    "cam-step": cam.step,
    "irn-step": irn.step,
    "amn-step": amn.step,
    "affinitynet-step": affinitynet.step,
    "mctformer-step": mctformer.step,
    "deeplabv2-step": deeplab.step,
    "deeplabv2-inference": deeplab.inference,
    "crf-predictions": crf.predictions,
    "crf-labels": crf.labels,
    "walk": irn.walks,
    "threshold-sweep": sweep.sweep,
}

COLUMNS = (
    "stage",
    "images a call",
    "published, CPU s an image",
    "ours",
    "bfloat16",
    "ratio",
    "bfloat16",
    "difference",
    "bfloat16",
)
HEAD = (f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}")


def main() -> None:
    """Measure the stages one after the other."""
    options = _options()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    print(*HEAD, sep="\n")
    with TemporaryDirectory() as folder:
        height, width = options.size
        bench = Bench(Path(folder), (height, width), options.batch, tuple(options.assign))
        for name in options.stages:
            stage = STAGES[name](bench)
            print(line(name, stage, measure(stage, options.rounds)), flush=True)


def line(name: str, stage: Stage, row: Row) -> str:
    """A line of a Markdown table."""
    published = row.seconds[PUBLISHED]
    own = [row.seconds.get(precision) for precision in PRECISIONS]
    seconds = ["" if each is None else f"{each:.3g}" for each in own]
    ratios = ["" if each is None else f"{published / each:.2f}" for each in own]
    apart = [f"{row.differences[precision]:.1e}" if precision in row.differences else "" for precision in PRECISIONS]
    return f"| {' | '.join([name, str(stage.images), f'{published:.3g}', *seconds, *ratios, *apart])} |"


def _stages(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in STAGES]:
        raise argparse.ArgumentTypeError(f"there is no stage {', '.join(unknown)}; there are {', '.join(STAGES)}")
    return names


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stages", type=_stages, default=list(STAGES), help=f"names, with commas between: {', '.join(STAGES)}")
    parser.add_argument("--rounds", type=int, default=3, help="rounds that are timed; the least time counts")
    parser.add_argument(
        "--size", type=lambda text: tuple(map(int, text.split("x"))), default=(375, 500), help="HEIGHTxWIDTH of the image"
    )
    parser.add_argument("--batch", type=int, default=0, help="the most images of a training step; 0: as published")
    parser.add_argument("--set", dest="assign", action="append", default=[], metavar="NAME=VALUE", help="a setting of the stages")
    return parser.parse_args()


if __name__ == "__main__":
    main()
