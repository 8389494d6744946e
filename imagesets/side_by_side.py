"""One function on very many things in several threads, for reading and decoding files, which need no interpreter lock."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

AT_ONCE = 1024  # things per task: an executor keeps a kilobyte per task, which is too much for each of a million images

Thing = TypeVar("Thing")
Result = TypeVar("Result")


def side_by_side(work: Callable[[Thing], Result], things: Iterable[Thing], threads: int | None = None) -> Iterator[Result]:
    """`work(thing)` of each, in order; `threads` as in ThreadPoolExecutor."""
    left = iter(things)
    with ThreadPoolExecutor(threads) as pool:
        while some := list(islice(left, AT_ONCE)):
            yield from pool.map(work, some)
