"""The batches of a training, epoch after epoch: the examples of each worker, and their parts."""

from collections.abc import Generator, Iterator, Sequence

from imagesets.errors import WrongInput
from imagesets.item import Item
from training import optimisers
from training.checkpoint import Progress
from training.loading import Part, Samples, loading
from training.randomness import generator
from training.run import Run
from training.stage import Training
from training.transfer import Batch


def check_shares(training: Training, world: int) -> None:
    """Raise WrongInput unless the batch divides by the number of workers times the number of parts."""
    shares = world * training.accumulate
    if training.batch % shares:
        parts = f" in {training.accumulate} parts each" if training.accumulate > 1 else ""
        raise WrongInput(
            f"a batch of {training.batch} does not divide among {world} workers{parts}; choose a multiple of {shares}"
        )


Share = tuple[tuple[Batch, ...], bool]  # a worker's share of a batch, in parts; whether an epoch ends with it


def batches(training: Training, items: Sequence[Item], run: Run, progress: Progress) -> Generator[Share]:
    """This worker's share of each batch after `progress`; the last one ends its epoch.

    Closing the generator ends the processes that load ahead. Raises WrongInput if an epoch's examples fill no batch.
    """
    pinned = run.device.type == "cuda"  # only from pinned memory does a copy to the GPU go on beside the computing
    samples, parts = Samples(training.sample, (*run.purpose, "sample")), _parts(training, items, run, progress)
    with loading(samples, parts, run.settings.loaders, pinned) as loaded:
        for step in zip(*[loaded] * training.accumulate, strict=True):  # the same iterator several times: parts that follow
            yield tuple(batch for batch, _ in step), step[-1][1]


def _parts(training: Training, items: Sequence[Item], run: Run, progress: Progress) -> Iterator[Part]:
    """The examples of this worker in each part of each batch."""
    epoch, done, left = len(progress.history), progress.done, training.steps - progress.step
    while left > 0:
        examples = training.examples(items, generator(*run.purpose, "order", epoch))
        whole = min(optimisers.steps(len(examples), training.batch, epochs=1), done + left)
        for step in range(done, whole):
            share = range(step * training.batch + run.rank, (step + 1) * training.batch, run.world)
            for part in range(training.accumulate):
                places = share[part :: training.accumulate]
                yield [(examples[place], epoch, place) for place in places], step + 1 == whole
        epoch, done, left = epoch + 1, 0, left - (whole - done)
