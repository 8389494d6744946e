"""Processes of one machine that share a training through torch.distributed."""

import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from torch import distributed


def run_in_group(work: Callable[[], None], backend: str, folder: Path, rank: int, world: int) -> NoReturn:
    """Run `work` as worker `rank` of `world`, then end this process; the workers meet through a file in `folder`.

    An error of `work` is raised. The interpreter is not shut down after success: DistributedDataParallel keeps Gloo's threads
    alive beyond destroy_process_group (torch 2.x), and now and then one of them aborts the shutdown.
    """
    meeting = f"file://{folder / 'meeting'}"
    distributed.init_process_group(backend, init_method=meeting, rank=rank, world_size=world)
    work()
    distributed.destroy_process_group()
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
