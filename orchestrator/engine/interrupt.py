"""Ctrl-C and SIGTERM: the first asks the running stages to checkpoint and end, the second ends this process at once.

This process also ends if the stages have not ended GRACE seconds after the first signal.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # commands start without it
    import psutil

# seconds; schedulers leave this time between SIGTERM and SIGKILL, and Ray gives a submitted job that of the variable
GRACE = float(os.environ.get("RAY_JOB_STOP_WAIT_TIME_S", "30"))
GIVEN = "WSSS_ORCH_COMMAND"  # an environment variable of a submitted job: the `submit` command that continues it
INTERRUPTED = 130  # a shell's exit code for a command that Ctrl-C ended


@contextmanager
def asking(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` on the first SIGINT or SIGTERM while the block runs. Other threads than the main one get no signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    told: list[int] = []

    def handle(number: int, frame: object) -> None:
        told.append(number)
        if len(told) > 1:
            end_at_once(INTERRUPTED)
        stop()
        timer.start()
        # not through the console: the interrupted code may hold its lock
        os.write(2, b"stopping: running stages go on to a checkpoint; Ctrl-C once more stops at once\n")

    timer = threading.Timer(GRACE, _give_up)
    timer.daemon = True
    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        timer.cancel()
        for number, handler in before.items():
            signal.signal(number, handler)


def _give_up() -> None:
    os.write(2, f"not at a checkpoint after {GRACE:.0f} s: stopped at once; the same command continues\n".encode())
    end_at_once(INTERRUPTED)


def end_at_once(code: int) -> None:
    """Kill this process and all processes that it has started."""
    import psutil

    kill(psutil.Process().children(recursive=True))
    os._exit(code)


def kill(processes: Iterable["psutil.Process"]) -> list["psutil.Process"]:
    """Kill processes; returns those that it killed. Some may have ended by themselves, and those of other users live on."""
    import psutil

    killed = []
    for process in processes:
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            process.kill()
            killed.append(process)
    return killed
