"""The batches of an epoch: the examples of each worker, and their parts."""

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import DataLoader, Dataset

from imagesets.errors import WrongInput
from imagesets.item import Item
from training import optimisers
from training.randomness import generator
from training.run import Run
from training.stage import Training

Batch = dict[str, torch.Tensor]


class Samples(Dataset):
    """The examples of one epoch; each has a generator of its own, so it does not matter which process loads it."""

    def __init__(self, training: Training, items: Sequence[Item], purpose: tuple[object, ...], epoch: int):
        self.sample, self.purpose = training.sample, (*purpose, "sample", epoch)
        self.examples = training.examples(items, generator(*purpose, "order", epoch))

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, place: int) -> Batch:
        return self.sample(self.examples[place], generator(*self.purpose, place))


def check_shares(training: Training, world: int) -> None:
    """Raise WrongInput unless the batch divides by the number of workers times the number of parts."""
    shares = world * training.accumulate
    if training.batch % shares:
        parts = f" in {training.accumulate} parts each" if training.accumulate > 1 else ""
        raise WrongInput(
            f"a batch of {training.batch} does not divide among {world} workers{parts}; choose a multiple of {shares}"
        )


def batches(training: Training, items: Sequence[Item], run: Run, epoch: int, done: int) -> Iterator[tuple[Batch, ...]]:
    """This worker's share of each batch of an epoch after the first `done` batches, in parts.

    Raises WrongInput if the epoch's examples fill no batch.
    """
    samples, batch, parts = Samples(training, items, run.purpose, epoch), training.batch, training.accumulate
    whole = optimisers.steps(len(samples), batch, epochs=1)
    shares = [range(step * batch + run.rank, (step + 1) * batch, run.world) for step in range(done, whole)]
    places = [list(share[part::parts]) for share in shares for part in range(parts)]
    loaded = iter(DataLoader(samples, batch_sampler=places, num_workers=run.settings.loaders))
    return zip(*[loaded] * parts, strict=True)  # the same iterator several times: consecutive parts make a batch
