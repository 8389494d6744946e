"""The last step of a pipeline: records are finished in threads, or in processes where the work holds Python's lock."""

import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context

import numpy as np
import torch

from imagesets.item import Item
from imagesets.views import Loaded
from orchestrator.engine.in_processes import begin_process
from orchestrator.engine.job import naming
from training.stage import Finish, PerImage, Record
from training.threads import set_threads


class Finishing:
    """Finishes `count` records at a time; `close` ends the threads and processes."""

    def __init__(self, stage: str, steps: PerImage, count: int):
        self.stage, self.finish, self.threads, self.processes = stage, steps.finish, ThreadPoolExecutor(count), None
        if steps.processes:  # they stay for all shards of a stage, because their start takes seconds
            self.processes = ProcessPoolExecutor(count, get_context("spawn"), _begin, (steps.finish,))
        self.seconds = deque[float]()  # of CPU that the processes have spent, by record

    def begin(self, images: Sequence[Loaded], computed: Sequence[Sequence[torch.Tensor]]) -> list[Future[Record]]:
        """The records to come of a batch, from the tensors of each image on the device."""
        # to pinned memory, without waiting for the device; a thread waits, while the next batch is computed
        on_host = [[tensor.to("cpu", non_blocking=True) for tensor in tensors] for tensors in computed]
        copied = None
        if any(tensor.is_cuda for tensors in computed for tensor in tensors):
            copied = torch.cuda.Event(blocking=True)
            copied.record()
        both = zip(images, on_host, strict=True)
        return [self.threads.submit(self._record, loaded.item, loaded.rgb, tensors, copied) for loaded, tensors in both]

    def cpu(self) -> float:
        """CPU seconds that the processes have spent since the last call."""
        return sum(self.seconds.popleft() for _ in range(len(self.seconds)))

    def close(self) -> None:
        """End all threads and processes; what they do at this moment is waited for."""
        self.threads.shutdown(cancel_futures=True)
        if self.processes:
            self.processes.shutdown()

    def _record(self, item: Item, rgb: np.ndarray, tensors: list[torch.Tensor], copied: torch.cuda.Event | None) -> Record:
        with naming(self.stage, item.id):
            if copied:
                copied.synchronize()
            arrays = [tensor.numpy() for tensor in tensors]
            if not self.processes:
                return self.finish(item, rgb, arrays)
            record, seconds = self.processes.submit(_record, item, rgb, arrays).result()
        self.seconds.append(seconds)
        return record


_finish: Finish  # of the stage that this process finishes records of


def _begin(finish: Finish) -> None:
    """Begin a process that finishes records."""
    global _finish
    _finish = finish
    set_threads(1)
    begin_process()


def _record(item: Item, rgb: np.ndarray, arrays: list[np.ndarray]) -> tuple[Record, float]:
    """A record, and the CPU seconds that it took."""
    before = time.process_time()
    return _finish(item, rgb, arrays), time.process_time() - before
