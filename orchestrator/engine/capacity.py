"""How many workers fit the nodes of a cluster, and how many CPUs each of them gets."""

from collections.abc import Mapping, Sequence

from imagesets.errors import WrongInput

Nodes = Sequence[Mapping[str, float]]  # the resources of each living node, by Ray's names
ON_A_GPU = 2  # per-item tasks that share a GPU: one computes while the other loads its network, or writes its shard
BESIDE = 3  # CPUs of such a task: one launches kernels, the others load images and finish records


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


def worker_needs(workers: int, threads: int, nodes: Nodes) -> tuple[int, dict[str, int]]:
    """CPUs and GPUs of each of `workers` training workers. Raises WrongInput if they do not fit: Ray would wait for ever."""
    gpus = any(node.get("GPU") for node in nodes)
    cpus = task_cpus(nodes, min(threads, sum(_cpus(nodes, gpus)) // workers), gpus)
    while cpus > 1 and fitting(nodes, cpus, gpus) < workers:  # more workers fit a node with fewer CPUs each
        cpus -= 1
    if workers > (there := fitting(nodes, cpus, gpus)):
        raise WrongInput(f"training.workers={workers}, but the cluster has {there} {'GPUs' if gpus else 'CPUs'}")
    return cpus, {"GPU": 1} if gpus else {}


def _cpus(nodes: Nodes, gpus: bool) -> list[int]:
    """The CPUs of each node; if `gpus`, of those with GPUs."""
    return [int(node.get("CPU", 0)) for node in nodes if node.get("GPU") or not gpus]
