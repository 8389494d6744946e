"""How many workers and tasks fit the nodes of a cluster, how many CPUs each of them gets, and how many of these load images."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from imagesets.errors import WrongInput

Nodes = Sequence[Mapping[str, float]]  # the resources of each living node, by Ray's names
ON_A_GPU = 2  # per-item tasks that share a GPU: one computes while the other loads its network, or writes its shard
BESIDE = 3  # CPUs of such a task: one launches kernels, the others load images and finish records
LOADERS = 8  # the most by default; on the 16 cores of an H200 more of them did not make batches come sooner
SHARED = Path("/dev/shm")  # where loaders leave their batches
OF_A_LOADER = 128 << 20  # bytes there: the batches that it holds ready


def fitting(nodes: Nodes, cpus: int, gpus: float) -> int:
    """The number of workers that fit the nodes, each with `cpus` CPUs and `gpus` GPUs, which may be a fraction."""
    return sum(int(min(node.get("CPU", 0) // cpus, node.get("GPU", 0) / gpus if gpus else node.get("CPU", 0))) for node in nodes)


def task_cpus(nodes: Nodes, threads: int, gpus: bool) -> int:
    """CPUs of a per-item task with `threads` threads: as many, but at most those of the largest node."""
    return max(min(threads, max(_cpus(nodes, gpus), default=0)), 1)


def gpu_task(nodes: Nodes, threads: int, many: bool) -> tuple[int, float]:
    """CPUs and share of a GPU of a per-item task with a network; with `many`, all the CPUs that its GPU has to offer."""
    each = min((int(node["CPU"] // node["GPU"]) for node in nodes if node.get("GPU") and node.get("CPU")), default=1)
    tasks = ON_A_GPU if each >= 2 * ON_A_GPU else 1
    cpus = each // tasks if many else min(each // tasks, BESIDE)
    return max(cpus, task_cpus(nodes, threads, True)), 1 / tasks


def worker_needs(workers: int, threads: int, nodes: Nodes, loaders: int | None = 0) -> tuple[int, dict[str, int]]:
    """CPUs (of its threads and loaders) and GPUs of each training worker.

    Raises WrongInput if `workers` do not fit: Ray would wait for ever.
    """
    gpus = any(node.get("GPU") for node in nodes)
    wanted = threads + (LOADERS if loaders is None and gpus else loaders or 0)
    cpus = task_cpus(nodes, min(wanted, sum(_cpus(nodes, gpus)) // workers), gpus)
    while cpus > 1 and fitting(nodes, cpus, gpus) < workers:  # more workers fit a node with fewer CPUs each
        cpus -= 1
    if workers > (there := fitting(nodes, cpus, gpus)):
        raise WrongInput(f"training.workers={workers}, but the cluster has {there} {'GPUs' if gpus else 'CPUs'}")
    return cpus, {"GPU": 1} if gpus else {}


def _cpus(nodes: Nodes, gpus: bool) -> list[int]:
    """The CPUs of each node; if `gpus`, of those with GPUs."""
    return [int(node.get("CPU", 0)) for node in nodes if node.get("GPU") or not gpus]


def loaders(cores: int, threads: int, gpu: bool) -> int:
    """Processes that load images for a training that has `cores` cores of this machine; without a GPU it needs them itself."""
    return max(min(cores - threads, LOADERS, shutil.disk_usage(SHARED).free // OF_A_LOADER), 0) if gpu else 0
