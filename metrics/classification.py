"""How well a network tells the classes of an image: F1, precision and recall of the image-level labels (RecurSeed Table 4).

A class is predicted where its probability, the sigmoid of the network's logit of the whole image at its own size, reaches a
threshold. Precision and recall of each class are over the list; F1 is that of their means over the classes. As published, the
threshold is the best for F1 of 0.05, 0.10, ..., 0.95 on this very list, so F1 is an oracle; F1 at 0.5 stands beside it.
A class's 0 / 0 is 0. Counts are int64 [...,T,K,3] for each threshold and class: images predicted to show it, images labelled
with it, and both.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from imagesets.item import Item
from imagesets.views import Loaded, images, load
from metrics import region
from training.stage import Context, PerImage, Record, Settings

GRID = (np.arange(1, 20) / 20).astype(np.float32)
FIXED = int(np.flatnonzero(GRID == 0.5)[0])


def score_network(context: Context) -> PerImage:
    """Per image, from one pass of the network: its counts [T,K,3], and as kept arrays what they are made of (see `reached`)."""
    network, device, classes = context.inputs["network"], context.device, len(context.classes)

    @torch.no_grad()
    def compute(batch: Sequence[Loaded]) -> list[list[torch.Tensor]]:
        (scale,) = images(batch, device)
        return [[probabilities] for probabilities in network(scale).sigmoid()]

    def record(item: Item, rgb: np.ndarray, arrays: Sequence[np.ndarray]) -> Record:
        predicted, labels = reached(arrays[0]), item.multi_hot(classes).astype(bool)
        weights = np.ones((1, 1), np.int64)
        return {"counts": counts_of(predicted[None], labels[None], weights)[0], "told": predicted, "labels": labels}

    return PerImage(lambda item: load(item, (1.0,), device), compute, record)


def result(settings: Settings, classes: Sequence[str], arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The JSON result of summed `score_network`."""
    counts, convention = arrays["counts"], settings.evaluation.miou
    precision, recall = ratios(counts)
    both = f1(precision, recall)
    best = int(f1(*macro(counts, convention)).argmax())
    of_class = {"f1": both[best], "label_precision": precision[best], "label_recall": recall[best]}
    return {
        "metrics": {name: region.number(value) for name, value in means(counts, convention).items()},
        "per_class": {
            label: {name: float(values[place]) for name, values in of_class.items()} for place, label in enumerate(classes)
        },
        "best_threshold": round(float(GRID[best]), 2),
        "protocol": {"miou": convention, "labels told from": "the best of 0.05 to 0.95 for F1 (oracle)"},
    }


def resampled(
    protocol: Mapping[str, Any], classes: Sequence[str], records: Iterable[Mapping[str, np.ndarray]]
) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """A function of weights [B,n] that gives the metrics [B]; see `metrics.evaluation.resampled`."""
    kept = list(records)
    predicted, labels = (np.stack([record[name] for record in kept]) for name in ("told", "labels"))
    return lambda weights: means(counts_of(predicted, labels, weights), protocol["miou"])


def reached(probabilities: np.ndarray) -> np.ndarray:
    """How many thresholds each probability reaches, uint8 of its shape."""
    return np.searchsorted(GRID, probabilities.astype(np.float32), side="right").astype(np.uint8)


def counts_of(predicted: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The counts [B,T,K,3] of B lists in which image i occurs weights[:,i] times, from `reached` and labels bool [n,K]."""
    above = [predicted > threshold for threshold in range(len(GRID))]
    of_threshold = [[weights @ plane for plane in (now, labels, now & labels)] for now in above]
    return np.array(of_threshold).transpose(2, 0, 3, 1)


def ratios(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Precision and recall [...,T,K] of each class."""
    predicted, labelled, both = np.moveaxis(counts, -1, 0)
    return both / np.maximum(predicted, 1), both / np.maximum(labelled, 1)


def macro(counts: np.ndarray, convention: region.Convention = "union") -> tuple[np.ndarray, np.ndarray]:
    """Means [...,T] of precision and recall over the classes that `convention` names; 0 if there are none.

    `union`: those predicted or labelled; `truth`: those labelled; `all`: every class, as published.
    """
    predicted, labelled, _ = np.moveaxis(counts, -1, 0)
    counted = {"union": (predicted > 0) | (labelled > 0), "truth": labelled > 0, "all": np.ones(predicted.shape, bool)}[
        convention
    ]
    precision, recall = ((ratio * counted).sum(-1) / np.maximum(counted.sum(-1), 1) for ratio in ratios(counts))
    return precision, recall


def f1(precision: np.ndarray, recall: np.ndarray) -> np.ndarray:
    """2 P R / (P + R); 0 if both are 0."""
    total = precision + recall
    return 2 * precision * recall / np.where(total > 0, total, 1)


def means(counts: np.ndarray, convention: region.Convention = "union") -> dict[str, np.ndarray]:
    """The metrics [...] by name: F1, precision and recall at the threshold with the best F1, and F1 at 0.5."""
    precision, recall = macro(counts, convention)
    of_threshold = f1(precision, recall)
    best = of_threshold.argmax(-1)[..., None]
    found = {"f1": of_threshold, "label_precision": precision, "label_recall": recall}
    at_best = {name: np.take_along_axis(values, best, -1)[..., 0] for name, values in found.items()}
    return {**at_best, "f1_fixed": of_threshold[..., FIXED]}
