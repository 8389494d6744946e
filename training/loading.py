"""Loads batches, in this process or ahead in others. A batch does not depend on the process that loads it."""

import multiprocessing
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import connection, resource_tracker
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset, default_collate

from imagesets.errors import WrongInput
from training.examples import Example
from training.randomness import generator
from training.threads import end_with_parent, set_threads
from training.transfer import Batch

Part = tuple[list[tuple[Example, int, int]], bool]  # examples, each with its epoch and place in it; whether an epoch ends here
Sample = Callable[[Example, np.random.Generator], Batch]


class LoaderLost(Exception):
    """A process that loads images has died."""


@dataclass(frozen=True)
class Samples(Dataset):
    """Makes the batch of a part; each example has a generator of its own."""

    sample: Sample
    purpose: tuple[object, ...]

    def __getitem__(self, part: Part) -> tuple[Batch | Exception, bool]:
        examples, last = part
        try:
            made = [self.sample(example, generator(*self.purpose, *place)) for example, *place in examples]
        except (WrongInput, OSError) as error:
            return error, last  # to be raised as it is: the loader would make a traceback of its sentence
        return default_collate(made), last


@contextmanager
def loading(samples: Samples, parts: Iterable[Part], loaders: int, pinned: bool) -> Iterator[Iterator[tuple[Batch, bool]]]:
    """The batches of `parts` in order, made ahead by `loaders` processes, which end with the block, or for 0 in this process.

    With `pinned` they lie in memory from which a GPU copies while it computes.
    """
    if not loaders:
        yield _raising(map(samples.__getitem__, parts))
        return
    loaded = _started(samples, parts, loaders, pinned)
    try:
        yield _raising(_watched(loaded))
    finally:
        loaded._shutdown_workers()  # by itself it would wait until nothing refers to it, such as the traceback of an error


def _started(samples: Samples, parts: Iterable[Part], loaders: int, pinned: bool) -> Any:
    """The iterator of a DataLoader whose processes are started.

    They are forked from a server that only imports: forked from this process they would inherit the locks of threads that CUDA
    and Ray have started, and spawned each would need two seconds and 200 MB for importing torch.
    """
    forking = multiprocessing.get_context("forkserver")
    forking.set_forkserver_preload([__name__, "cv2"])
    loader = DataLoader(
        samples,
        sampler=parts,
        batch_size=None,  # a part is a batch already
        num_workers=loaders,
        pin_memory=pinned,
        multiprocessing_context=forking,
        worker_init_fn=_begin,
    )
    with _signals_left_to_this_process():
        return iter(loader)


def _watched(loaded: Any) -> Iterator[tuple[Batch | Exception, bool]]:
    """The batches of a DataLoader. A dead process shows in many ways, such as a connection that is reset."""
    try:
        yield from loaded
    except (RuntimeError, OSError, EOFError) as error:
        if connection.wait([process.sentinel for process in loaded._workers], timeout=1):  # seconds until the system tells
            raise LoaderLost("a process that loads images has died") from error
        raise


def _raising(loaded: Iterable[tuple[Batch | Exception, bool]]) -> Iterator[tuple[Batch, bool]]:
    for batch, last in loaded:
        if isinstance(batch, Exception):
            raise batch
        yield batch, last


@contextmanager
def _signals_left_to_this_process() -> Iterator[None]:
    """Processes started in the block never see Ctrl-C and SIGTERM: they load on until this process is at a checkpoint."""
    resource_tracker.ensure_running()  # its own start would let the signals through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin(loader: int) -> None:
    """Begin as a loader, which ends with the training's process; the server lives as long as a loader does."""
    set_threads(1)
    end_with_parent()
