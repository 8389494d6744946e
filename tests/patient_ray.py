"""The program `ray` with more patience: Ray waits 30 s for a node, which may be too short on a busy machine."""

import sys
import time

from ray._private import services
from ray.scripts.scripts import main

SECONDS = 60.0
ask = services.get_node


def get_node(*arguments: object) -> object:
    """Ray's own function, asked until it finds the node."""
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            return ask(*arguments)
        except RuntimeError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


services.get_node = get_node
sys.exit(main())
