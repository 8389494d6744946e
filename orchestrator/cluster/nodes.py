"""A visit to every node of a running cluster: a task on each looks at the node and at the store."""

import contextlib
import platform
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from imagesets.errors import WrongInput
from orchestrator.cluster import probe
from orchestrator.cluster.shipping import ROOT
from orchestrator.engine.address import require_reachable
from orchestrator.engine.ray_session import connected
from orchestrator.storage.remote import SHORT, Address, Remote, refuse_unusable, server_options, unusable

Seen = Callable[[str], bool]  # whether the driver sees the note of this name that a node has written


@dataclass(frozen=True)
class Node:
    """A living node, and the findings on it, or why there are none."""

    address: str
    resources: Mapping[str, float]
    found: Mapping[str, Any] = field(default_factory=dict)
    silent: str = ""  # why there are no findings
    unseen: bool = False  # the driver does not see what the node has written to the store
    skew: float = 0.0  # seconds by which its clock is wrong, at least

    @property
    def name(self) -> str:
        """Host and address, if known."""
        return f"{self.found['host']} ({self.address})" if self.found else self.address


def visit(address: str, folder: Path, remote: Address | None, seconds: float) -> list[Node]:
    """Every living node of the cluster at `address`; a node that does not answer within `seconds` counts as silent.

    The store is `folder` or `remote`; no file is left in it. Raises WrongInput if the cluster or the
    store cannot be reached from here.
    """
    require_reachable(address)
    token, s3 = secrets.token_hex(16), server_options(remote) if remote else None
    with connected(address), _marked_remote(remote, token) if remote else _marked(folder, token) as (place, seen):
        ray.cloudpickle.register_pickle_by_value(probe)  # a node may have another version of the module, or none
        living = [node for node in ray.nodes() if node["Alive"]]
        began = time.time()
        tasks = [_task(node["NodeID"]).remote(place, s3, token, node["NodeID"]) for node in living]
        ray.wait(tasks, num_returns=len(tasks), timeout=seconds)
        return [_node(node, task, seen, began, seconds) for node, task in zip(living, tasks, strict=True)]


def driver() -> Mapping[str, Any]:
    """The findings on the driver itself, to compare the nodes with."""
    return {"python": platform.python_version(), "packages": probe.packages(), "code": probe.code_version(ROOT)}


def _task(node: str) -> Any:
    where = NodeAffinitySchedulingStrategy(node, soft=False)
    return ray.remote(probe.look).options(num_cpus=0, max_retries=0, scheduling_strategy=where)


def _node(node: Mapping[str, Any], task: Any, seen: Seen, began: float, seconds: float) -> Node:
    address, resources = node["NodeManagerAddress"], node["Resources"]
    try:
        found = ray.get(task, timeout=0)
    except ray.exceptions.GetTimeoutError:
        return Node(address, resources, silent=f"did not answer in {seconds:.0f} s")
    except RayError as error:
        return Node(address, resources, silent=f"could not be asked: {str(error).strip().splitlines()[-1]}")
    now = time.time()
    skew = max(began - found["clock"], found["clock"] - now, 0.0)
    return Node(address, resources, found, unseen=not found["store"] and not seen(node["NodeID"]), skew=skew)


@contextmanager
def _marked(store: Path, token: str) -> Iterator[tuple[str, Seen]]:
    """While the block lasts, a folder of the store with the driver's marker in it; a missing store is made for that time."""
    place = store / _name()
    missing = [folder for folder in place.parents if not folder.exists()]
    try:
        place.mkdir(parents=True)
        (place / probe.ASKED).write_text(token, encoding="utf-8")
    except OSError as error:
        raise WrongInput(f"--store {store} cannot be written on this node: {error.strerror}") from error
    try:
        yield str(place), partial(_reads, lambda name: (place / name).read_bytes(), token)
    finally:
        shutil.rmtree(place)
        with contextlib.suppress(OSError):  # not empty: another process has begun to use the store
            for folder in missing:
                folder.rmdir()


@contextmanager
def _marked_remote(address: Address, token: str) -> Iterator[tuple[str, Seen]]:
    """The same for a store on S3."""
    remote, place = Remote(address, SHORT), _name()
    refuse_unusable(remote)
    try:
        remote.put(token.encode(), f"{place}/{probe.ASKED}")
    except OSError as error:
        raise unusable(address, "written to", error) from error
    try:
        yield f"{address.path}/{place}", partial(_reads, lambda name: remote.get(f"{place}/{name}"), token)
    finally:
        with contextlib.suppress(OSError):  # a network failure now must not hide the findings
            remote.delete(place, folder=True)


def _name() -> str:
    return f".doctor-{secrets.token_hex(8)}"


def _reads(read: Callable[[str], bytes], token: str, name: str) -> bool:
    try:
        return read(name) == token.encode()
    except OSError:
        return False
