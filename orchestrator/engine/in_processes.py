"""One function on very many things in several processes, for work that holds Python's lock."""

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from typing import TypeVar

from training.threads import end_with_parent

AHEAD = 4  # things that wait for each process; an executor alone would take in all of them at once

Thing = TypeVar("Thing")
Result = TypeVar("Result")


def in_processes(processes: int, work: Callable[[Thing], Result], things: Iterable[Thing]) -> Iterator[Result]:
    """`work(thing)` of each, in order; what `work` raises is raised here and ends the processes."""
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), begin_process) as pool:
        waiting = deque[Future[Result]]()
        try:
            for thing in things:
                waiting.append(pool.submit(work, thing))
                if len(waiting) > AHEAD * processes:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def begin_process() -> None:
    """Begin a process that works for its parent; it ends with its parent, whatever ends that."""
    for asked in (signal.SIGINT, signal.SIGTERM):  # a terminal or scheduler sends them to the whole group
        signal.signal(asked, signal.SIG_IGN)
    end_with_parent()
