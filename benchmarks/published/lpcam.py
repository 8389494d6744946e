"""LPCAM: maps from prototypes."""

from collections.abc import Sequence

import torch

from benchmarks.lpcam_similarity import broadcast_maps
from benchmarks.published.bench import CLASSES, Bench
from benchmarks.published.networks import Classifier
from benchmarks.published.pairs import SCALES, enlarged, maps_stage, pair, plain, read
from benchmarks.published.rounds import Stage
from maps.grids import rounded_up, strided

PROTOTYPES, CONTEXTS = 6, 8  # of a class


def maps(bench: Bench) -> Stage:
    """The maps of an image from drawn prototypes: one cosine per prototype and position, against one product."""
    item, _ = bench.example()
    network = plain(Classifier(len(CLASSES)), bench.state("cam-network"))
    drawn = torch.Generator().manual_seed(0)
    fitted = [
        [torch.rand(count, 2048, generator=drawn) ** power for count, power in ((PROTOTYPES, 1), (CONTEXTS, 4))] for _ in CLASSES
    ]

    def published() -> Sequence[torch.Tensor]:
        rgb, grids = read(item.image), []
        for scale in SCALES:
            features = network.backbone(pair(rgb, scale))[-1]
            grids.append(torch.stack([broadcast_maps(features, *fitted[key]) for key in item.labels]))
        height, width = rgb.shape[:2]
        high = torch.stack([enlarged(grid, rounded_up((height, width))) for grid in grids]).mean(0)[:, :height, :width]
        low = torch.stack([enlarged(grid, strided((height, width))) for grid in grids]).mean(0)
        return [planes / planes.amax(dim=(1, 2), keepdim=True) for planes in (low, high)]

    records = [{"prototypes": found.numpy(), "contexts": contexts.numpy()} for found, contexts in fitted]
    return maps_stage(bench, "lpcam-maps", published, fitted=dict(zip(CLASSES, records, strict=True)))
