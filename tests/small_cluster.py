"""A Ray cluster of several nodes on this machine for tests; see `namespaces` for nodes that can be lost like machines."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psutil

OBJECT_STORE = 80 << 20  # bytes for each node: Ray asks for no less than 75 MB


class SmallCluster:
    """A head without CPUs and nodes of one CPU each."""

    def __init__(self, temporary: Path, nodes: int):
        from ray.cluster_utils import Cluster

        head = {"num_cpus": 0, "object_store_memory": OBJECT_STORE, "include_dashboard": False, "temp_dir": str(temporary)}
        with patch("ray._private.utils.write_ray_address"):  # or `--address auto` of other people would find this one
            self.cluster = Cluster(initialize_head=True, head_node_args=head)
        for _ in range(nodes):
            self.add()

    @property
    def address(self) -> str:
        """What --address takes."""
        return self.cluster.address

    def add(self) -> None:
        """One more node."""
        self.cluster.add_node(num_cpus=1, object_store_memory=OBJECT_STORE)

    def carrier(self, title: str) -> Any:
        """A node with a worker process whose title has `title` in it, or None."""
        for node in self.cluster.worker_nodes:
            if any(title in " ".join(_cmdline(child)) for child in _raylet(node).children()):
                return node
        return None


@contextmanager
def small_cluster(temporary: Path, nodes: int = 2) -> Iterator[SmallCluster]:
    """A cluster while the block runs; `temporary` must be short, as sockets lie below it."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    cluster = SmallCluster(temporary, nodes)
    try:
        yield cluster
    finally:
        with patch("ray._common.utils.reset_ray_address"):
            cluster.cluster.shutdown()


def _raylet(node: Any) -> psutil.Process:
    return psutil.Process(node.all_processes["raylet"][0].process.pid)


def _cmdline(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []
