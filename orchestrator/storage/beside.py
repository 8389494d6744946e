"""Repeats a call in a thread beside a block."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def beside(do: Callable[[], bool | None], seconds: float) -> Iterator[None]:
    """Call `do` every `seconds` until the block ends or `do` returns False."""
    ended = threading.Event()

    def repeat() -> None:
        while not ended.wait(seconds) and do() is not False:
            pass

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
