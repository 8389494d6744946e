"""IRN: a step of its network, the boundaries of an image, and the random walk."""

from collections.abc import Sequence

import numpy as np
import torch

from benchmarks.irn_affinity import RADIUS, gather_plan, gathered, gathered_masks, pair_plan
from benchmarks.published.bench import Bench
from benchmarks.published.irnet import IRNet
from benchmarks.published.pairs import pair, plain, read
from benchmarks.published.rounds import PUBLISHED, Form, Stage, timed
from benchmarks.published.steps import Batch, step_stage
from benchmarks.random_walk import dense_walk, example
from imagesets.transforms import views
from maps.grids import strided
from refiners.irnet import boundary
from refiners.pair_geometry import directions
from refiners.random_walk import walk
from training.stage import Training


def step(bench: Bench) -> Stage:
    """An update of both branches; the pairs of cells are gathered by index."""

    def prepared(ours: Training) -> tuple:
        network = IRNet()
        network.load_state_dict(ours.network.state_dict())
        network.eval()  # displacements have no mean yet; batch norms keep their statistics
        trained = [parameter for name, parameter in network.named_parameters() if name.startswith("fc_")]
        optimiser = torch.optim.SGD(trained, lr=0.0, momentum=1e-4, weight_decay=1e-4)
        pairs = _Pairs(bench.stage("irn-network").settings["crop"] // 4)

        def losses(batch: Batch) -> list[torch.Tensor]:
            logits, displacement = network(batch["image"])
            return [pairs.loss(logits, displacement, batch["label"])]

        return network, optimiser, losses

    labels = {item.id: {"label": bench.label()} for item in bench.items(64)}
    return step_stage(bench, "irn-network", prepared, labels=labels)


class _Pairs:
    """The published losses on a square grid; the indices are made once."""

    def __init__(self, side: int) -> None:
        self.paths, (self.ends, self.starts) = gather_plan(side), pair_plan(side)
        self.offsets = torch.tensor(directions(RADIUS), dtype=torch.float32).T[None, :, :, None]

    def loss(self, logits: torch.Tensor, displacement: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Half of both affinity losses and of both displacement losses."""
        background, foreground, different = gathered_masks(labels, self.ends, self.starts)
        affinity = gathered(logits[:, 0].sigmoid(), self.paths)
        same = -torch.log(affinity + 1e-5)
        positive = (
            (background * same).sum() / (background.sum() + 1e-5) + (foreground * same).sum() / (foreground.sum() + 1e-5)
        ) / 2
        negative = (different * -torch.log(1 + 1e-5 - affinity)).sum() / (different.sum() + 1e-5)
        flat = displacement.flatten(2)
        moved = flat[:, :, self.starts][:, :, None] - flat[:, :, self.ends]
        towards = ((moved - self.offsets).abs().sum(1) * foreground).sum() / (2 * foreground.sum() + 1e-5)
        still = (moved.abs().sum(1) * background).sum() / (2 * background.sum() + 1e-5)
        return (positive + negative) / 2 + (towards + still) / 2


def boundaries(bench: Bench) -> Stage:
    """The boundaries of an image, at one scale, with its mirror; the published network makes displacements as well."""
    item, _ = bench.example()
    network = plain(IRNet(), bench.state("irn-network"))

    def published() -> Sequence[torch.Tensor]:
        rgb = read(item.image)
        rows, columns = strided(rgb.shape[:2])
        logits = network(pair(rgb))[0][:, 0, :rows, :columns]
        return [torch.sigmoid(logits[0] / 2 + logits[1].flip(-1) / 2)]

    def ours(precision: str) -> Form:
        irnet = bench.context("irn-masks", precision, {}).inputs["affinity"]
        # the first part of the stage, as its function of one image has it; the walk is a row of its own
        return timed(lambda: [boundary(irnet, torch.from_numpy(views(item.rgb(), [1.0])[0])).float()])

    forms = {precision: ours(precision) for precision in bench.precisions}
    return Stage(1, {PUBLISHED: timed(torch.no_grad()(published)), **forms})


def walks(bench: Bench) -> Stage:
    """The walk on a stride-4 grid over an image of half the size: at full size the dense matrix takes minutes."""
    height, width = bench.size
    maps, edges = example(strided((height // 2, width // 2)), np.random.default_rng(0))
    return Stage(1, {PUBLISHED: timed(lambda: [dense_walk(maps, edges)]), "float32": timed(lambda: [walk(maps, edges)])})
