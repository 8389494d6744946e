"""Ctrl-C and SIGTERM: the first asks the running stages to checkpoint and end, the second ends this process at once.

So does the first where they have not ended after a while: the last checkpoint is good enough.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# seconds: what schedulers leave between SIGTERM and SIGKILL, and what a submitted job is given
GRACE = float(os.environ.get("RAY_JOB_STOP_WAIT_TIME_S", "30"))
GIVEN = "WSSS_ORCH_COMMAND"  # the environment variable of a submitted job with the command that sent it, and would again
INTERRUPTED = 130  # the exit code that shells give to what Ctrl-C ended


@contextmanager
def asking(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` on the first SIGINT or SIGTERM while the block runs."""
    told: list[int] = []

    def handle(number: int, frame: object) -> None:
        told.append(number)
        if len(told) > 1:
            end_at_once(INTERRUPTED)
        stop()
        timer.start()
        # not through the console, whose lock the interrupted line may hold
        os.write(2, b"stopping: what runs is brought to a checkpoint; once more (Ctrl-C) stops at once\n")

    timer = threading.Timer(GRACE, give_up)
    timer.daemon = True
    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        timer.cancel()
        for number, handler in before.items():
            signal.signal(number, handler)


def give_up() -> None:
    """End this process at once, and say so."""
    os.write(2, f"not at a checkpoint after {GRACE:.0f} s: stopped at once; the same command continues\n".encode())
    end_at_once(INTERRUPTED)


def end_at_once(code: int) -> None:
    """End this process and all that it has started, without any farewell."""
    import psutil  # no command should wait for it that is not interrupted

    for child in psutil.Process().children(recursive=True):
        try:
            child.kill()
        except psutil.NoSuchProcess:
            continue
    os._exit(code)
