"""Which mu and sigma of FSL suit an image set: maps that FSL alone moves, without a network (HFPL Figure 7 and S.1).

Run from the repository root: python -m benchmarks.similarity_settings --images voc12:PATH --to settings.svg   (minutes)

Each map begins as 2 G - 1, where G is an axis-aligned Gaussian with the mean and the variances of the mask of a lone object, and
FSL moves it on the image at fifty pixels, a tenth of VOC's. Prints J, F and J&F of the positive scores, enlarged to the image's
size, for each mu and sigma. They count like those of a list: one sum over all images for each class.

The paper names neither gating, nor optimiser, nor number of steps. Ours are the logistic function, under which background may
become foreground (r has no gradient there); gradient descent; and for each mu and sigma the step at which J&F is best, because
alone FSL ends in maps that are equal everywhere, sooner where sigma makes the loss larger.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from matplotlib.figure import Figure

from imagesets.image_set import ImageSet
from imagesets.item import VOID
from imagesets.transforms import rescale
from maps.feature_similarity import similarity_loss
from maps.grids import resize
from metrics import contour, region
from orchestrator.planning.images import images_alone

MUS, SIGMAS = (1.0, 1.5, 2.0, 2.5, 3.0, 3.5), (2.0, 3.0, 5.0, 7.0, 10.0, 15.0)
AREA = 0.05, 0.5  # the least and the largest share of an image that its object may have
RATE = 10.0  # of gradient descent on the sum over cells, in units of the score
STEPS = range(3, 16, 3)  # the steps after which the maps are scored


class Scene:
    """An image with one object: its colours [1,3,h,w] at `side` pixels, its mask uint8 [H,W], and the map to begin with."""

    def __init__(self, rgb: np.ndarray, mask: np.ndarray, side: int) -> None:
        self.mask = mask
        height, width = (max(1, round(length * side / max(mask.shape))) for length in mask.shape)
        self.colours = torch.from_numpy(rescale(rgb, (height, width)) / np.float32(255)).movedim(2, 0)[None]
        self.start = torch.from_numpy(2 * gaussian((mask != 0) & (mask != VOID), (height, width)) - 1)[None, None]

    def moved(self, mu: float, sigma: float) -> list[torch.Tensor]:
        """The map [1,1,h,w] after each of `STEPS`."""
        scores, found = self.start, []
        for step in range(1, max(STEPS) + 1):
            scores = scores.detach().requires_grad_()
            loss = similarity_loss(scores.sigmoid(), self.colours, mu, sigma)
            scores = scores - RATE * scores.numel() * torch.autograd.grad(loss, scores)[0]
            found += [scores.detach()] if step in STEPS else []
        return found

    def label_map(self, scores: torch.Tensor) -> np.ndarray:
        """The object's label where the scores, enlarged, are positive; else background."""
        label = self.mask[(self.mask != 0) & (self.mask != VOID)][0]
        return np.where(resize(scores, self.mask.shape)[0, 0].numpy() > 0, label, 0).astype(np.uint8)


def gaussian(plane: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """An axis-aligned Gaussian float32 of `size`, 1 at its peak, with the mean and the variances of a plane [H,W] of truths."""
    made = np.ones(size)
    for axis, length in enumerate(size):
        places = (np.nonzero(plane)[axis] + 0.5) / plane.shape[axis] * length - 0.5
        own = np.exp(-((np.arange(length) - places.mean()) ** 2) / (2 * max(places.var(), 1e-6)))
        made *= np.expand_dims(own, 1 - axis)
    return made.astype(np.float32)


def scenes(images: ImageSet, lists: list[str], each: int, side: int) -> Iterator[Scene]:
    """The first `each` images of every class whose mask has a lone object of the class and nothing else."""
    found: dict[int, int] = {}
    for item in (item for name in lists for item in images.items(name, with_masks=True)):
        if len(item.labels) != 1 or found.get(item.labels[0], 0) == each:
            continue
        mask = item.truth()
        objects = ((mask != 0) & (mask != VOID)).astype(np.uint8)
        if cv2.connectedComponents(objects)[0] == 2 and AREA[0] <= objects.mean() <= AREA[1]:
            found[item.labels[0]] = found.get(item.labels[0], 0) + 1
            yield Scene(item.rgb(), mask, side)


def quality(scenes: list[Scene], maps: list[torch.Tensor], classes: int) -> tuple[float, float]:
    """J and F of the maps in percent."""
    pairs = [(scene.mask, scene.label_map(scores)) for scene, scores in zip(scenes, maps, strict=True)]
    confusion = np.sum([region.confusion(truth, label, classes + 1) for truth, label in pairs], axis=0)
    counts = np.sum([contour.matches(truth, label, classes) for truth, label in pairs], axis=0)
    return 100 * float(region.miou(confusion)), 100 * float(contour.mean_f(counts))


def best(scenes: list[Scene], mu: float, sigma: float, classes: int) -> tuple[float, float]:
    """J and F at the step at which their mean is best."""
    steps = zip(*(scene.moved(mu, sigma) for scene in scenes), strict=True)
    return max((quality(scenes, list(maps), classes) for maps in steps), key=sum)


def drawn(found: dict[tuple[float, float], tuple[float, float]], start: tuple[float, float]) -> Figure:
    """Three panels, J, F and J&F: the value over sigma, a line for each mu, and the value to begin with."""
    figure = Figure((9, 3.2), layout="constrained")
    panels = {"J (mIoU)": lambda pair: pair[0], "F": lambda pair: pair[1], "J&F": lambda pair: sum(pair) / 2}
    for axes, (title, value) in zip(figure.subplots(1, 3), panels.items(), strict=True):
        for number, mu in enumerate(MUS):
            axes.plot(SIGMAS, [value(found[mu, sigma]) for sigma in SIGMAS], f"C{number}o-", markersize=3, label=f"mu {mu:g}")
        axes.axhline(value(start), color="grey", linewidth=0.8, linestyle="--", label="Gaussians")
        axes.set(title=title, xlabel="sigma in cells", ylabel="percent", xscale="log")
        axes.set_xticks(SIGMAS, [f"{sigma:g}" for sigma in SIGMAS])
        axes.minorticks_off()
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=7, fontsize=8)
    return figure


def main() -> None:
    """Print a table, and the best mu and sigma."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", default="shapes", help="image set with masks, such as voc12:PATH")
    parser.add_argument("--lists", default="val,train", help="lists that images are taken from, the first first")
    parser.add_argument("--each", type=int, default=1, help="images of each class (1 in the paper)")
    parser.add_argument("--side", type=int, default=50, help="longer side of the grid")
    parser.add_argument("--to", type=Path, help="also draw Figure 7 into this file: .svg, .png or .pdf")
    given = parser.parse_args()
    torch.set_num_threads(1)
    images, _ = images_alone(given.images, [], Path("wsss-store"))
    found, classes = list(scenes(images, given.lists.split(","), given.each, given.side)), len(images.classes)
    if not found:
        raise SystemExit(f"no image of {given.images} has a lone object of {AREA[0]:.0%} to {AREA[1]:.0%} of its pixels")
    start = quality(found, [scene.start for scene in found], classes)
    print(f"{len(found)} images of {images.name}; the Gaussians: J {start[0]:.1f}, F {start[1]:.1f}, J&F {sum(start) / 2:.1f}")
    scored = {(mu, sigma): best(found, mu, sigma, classes) for mu in MUS for sigma in SIGMAS}
    print(f"| mu | {' | '.join(f'sigma {sigma:g}' for sigma in SIGMAS)} |\n{'|---' * (len(SIGMAS) + 1)}|")
    for mu in MUS:
        cells = [f"{sum(pair) / 2:.1f} ({pair[0]:.1f}, {pair[1]:.1f})" for pair in (scored[mu, sigma] for sigma in SIGMAS)]
        print(f"| {mu:g} | " + " | ".join(cells) + " |")
    mu, sigma = max(scored, key=lambda place: sum(scored[place]))
    published, own = (sum(scored[place]) / 2 for place in ((2.5, 5.0), (mu, sigma)))
    print(f"best J&F {own:.1f} at mu {mu:g}, sigma {sigma:g}; at 2.5 and 5, the paper's, {published:.1f}")
    if given.to:
        drawn(scored, start).savefig(given.to, dpi=150)


if __name__ == "__main__":
    main()
