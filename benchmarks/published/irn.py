"""IRN: a step of its network, the boundaries of an image, and the random walk."""

from collections.abc import Sequence

import numpy as np
import torch

from benchmarks.irn_affinity import Published
from benchmarks.published.bench import Bench
from benchmarks.published.irnet import IRNet
from benchmarks.published.pairs import pair, plain, read
from benchmarks.published.rounds import PRECISIONS, PUBLISHED, Form, Stage, timed
from benchmarks.published.steps import Batch, step_stage
from benchmarks.random_walk import dense_walk, example
from maps.grids import strided
from refiners.random_walk import walk
from training.stage import PerImage, Training


def step(bench: Bench) -> Stage:
    """An update of both branches; the pairs of cells are gathered by index."""

    def prepared(ours: Training) -> tuple:
        network = IRNet()
        network.load_state_dict(ours.network.state_dict())
        network.eval()  # displacements have no mean yet; batch norms keep their statistics
        trained = [parameter for name, parameter in network.named_parameters() if name.startswith("fc_")]
        optimiser = torch.optim.SGD(trained, lr=0.0, momentum=1e-4, weight_decay=1e-4)
        pairs = Published(side=bench.stage("irn-network").settings["crop"] // 4)

        def losses(batch: Batch) -> list[torch.Tensor]:
            logits, displacement = network(batch["image"])
            return [torch.stack(list(pairs.losses(logits, displacement, batch["label"]).values())).sum()]

        return network, optimiser, losses

    labels = {item.id: {"label": bench.label()} for item in bench.items(64)}
    return step_stage(bench, "irn-network", prepared, labels=labels)


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
        one = bench.per_image("irn-masks", precision)
        assert isinstance(one, PerImage)
        return timed(lambda: one.compute([one.load(item)])[0])  # the walk, which finishes the record, is a row of its own

    forms = {precision: ours(precision) for precision in PRECISIONS}
    return Stage(1, {PUBLISHED: timed(torch.no_grad()(published)), **forms})


def walks(bench: Bench) -> Stage:
    """The walk on a stride-4 grid over an image of half the size: at full size the dense matrix takes minutes."""
    height, width = bench.size
    maps, edges = example(strided((height // 2, width // 2)), np.random.default_rng(0))
    return Stage(1, {PUBLISHED: timed(lambda: [dense_walk(maps, edges)]), "float32": timed(lambda: [walk(maps, edges)])})
