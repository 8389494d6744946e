"""Makes the records of images by a pipeline that keeps a GPU busy.

Threads load images ahead, the calling thread computes images of equal sizes in batches, and threads or processes finish records
behind it. Which images share a batch follows from their shard alone.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import chain, islice, tee

from imagesets.item import Item
from imagesets.views import Loaded
from orchestrator.engine.finishing import Finishing
from orchestrator.engine.job import Ask, naming
from training.stage import PerImage, Record

LOADERS = 4  # threads at most; one core decodes and rescales about 40 images a second
POLL = 0.5  # seconds between two calls of `ask` while records are waited for


def batches(images: Iterable[tuple[int, Loaded]], size: int) -> Iterator[list[tuple[int, Loaded]]]:
    """Numbered images of equal sizes, up to `size` at once."""
    waiting: dict[object, list[tuple[int, Loaded]]] = {}
    for place, loaded in images:
        batch = waiting.setdefault(loaded.sizes, [])
        batch.append((place, loaded))
        if len(batch) == size:
            yield waiting.pop(loaded.sizes)
    yield from waiting.values()


class Pipeline:
    """Makes the records of a stage's images with `cpus` cores, computing up to `batch` at once; `close` ends its threads."""

    def __init__(self, stage: str, steps: PerImage, cpus: int, batch: int):
        self.stage, self.steps, self.batch = stage, steps, batch
        self.loading, self.finishing = ThreadPoolExecutor(min(cpus, LOADERS)), Finishing(stage, steps, max(cpus - 1, 1))
        self.ahead = batch + min(cpus, LOADERS)  # images that are loaded before they are needed
        self.behind = batch + cpus  # images that are finished or wait for that, while others are computed
        self.loads, self.unfinished = deque[tuple[Item, Future[Loaded]]](), list[Future[Record]]()

    def records(self, shards: Iterable[Sequence[Item]], ask: Ask = lambda: None) -> Iterator[list[Record]]:
        """The records of each shard; `ask` is called before every image and while this waits, and may raise to end this."""
        to_load, to_make = tee(shards)
        computed = deque[list[Future[Record]]]()
        try:
            loads = self._loads(chain.from_iterable(to_load))
            for shard in to_make:
                computed.append(self._computed(islice(loads, len(shard)), ask))
                if len(computed) > 1:  # one shard is finished while the next is computed
                    yield self._results(computed.popleft(), ask)
            yield from (self._results(futures, ask) for futures in computed)
        finally:
            for _, load in self.loads:
                load.cancel()
            for record in self.unfinished:
                record.cancel()
            self.loads.clear()
            self.unfinished.clear()

    def cpu(self) -> float:
        """CPU seconds that other processes have spent since the last call."""
        return self.finishing.cpu()

    def close(self) -> None:
        """End all threads and processes; what they do at this moment is waited for."""
        self.loading.shutdown(cancel_futures=True)
        self.finishing.close()

    def _loads(self, items: Iterator[Item]) -> Iterator[tuple[Item, Future[Loaded]]]:
        """Every image and its loading, which begins some images ahead."""
        for item in items:
            self.loads.append((item, self.loading.submit(self.steps.load, item)))
            if len(self.loads) > self.ahead:
                yield self.loads.popleft()
        while self.loads:
            yield self.loads.popleft()

    def _computed(self, loads: Iterator[tuple[Item, Future[Loaded]]], ask: Ask) -> list[Future[Record]]:
        """Compute a shard; returns its records to come, in order."""
        records: dict[int, Future[Record]] = {}
        for batch in batches(self._loaded(loads, ask), self.batch):
            self._wait_for_room(ask)
            places, images = zip(*batch, strict=True)
            with naming(self.stage, *(loaded.item.id for loaded in images)):
                found = self.steps.compute(images)
            begun = self.finishing.begin(images, found)
            self.unfinished += begun
            records |= zip(places, begun, strict=True)
        return [records[place] for place in range(len(records))]

    def _loaded(self, loads: Iterator[tuple[Item, Future[Loaded]]], ask: Ask) -> Iterator[tuple[int, Loaded]]:
        for place, (item, load) in enumerate(loads):
            ask()
            with naming(self.stage, item.id):
                loaded = load.result()
            yield place, loaded

    def _wait_for_room(self, ask: Ask) -> None:
        while len(left := [record for record in self.unfinished if not record.done()]) > self.behind:
            wait(left, POLL, FIRST_COMPLETED)
            ask()
        self.unfinished = left

    def _results(self, records: list[Future[Record]], ask: Ask) -> list[Record]:
        while wait(records, POLL).not_done:
            ask()
        return [record.result() for record in records]
