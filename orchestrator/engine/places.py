"""How many workers fit the nodes of a cluster, and with how many CPUs each: arithmetic on what Ray says they have."""

from collections.abc import Mapping, Sequence

from imagesets.errors import WrongInput

Nodes = Sequence[Mapping[str, float]]  # what each living node has of CPU and GPU


def places(nodes: Nodes, cpus: int, gpus: bool) -> int:
    """Workers of so many CPUs, and one GPU each where `gpus`, that fit the nodes side by side."""
    return sum(int(min(node.get("CPU", 0) // cpus, node.get("GPU", 0) if gpus else node.get("CPU", 0))) for node in nodes)


def width(nodes: Nodes, threads: int, gpus: bool) -> int:
    """CPUs of a per-item task that computes with so many threads: as many, but no more than the largest node has."""
    room = [int(node.get("CPU", 0)) for node in nodes if node.get("GPU") or not gpus]
    return max(min(threads, max(room, default=0)), 1)


def worker_needs(workers: int, threads: int, nodes: Nodes) -> tuple[int, dict[str, int]]:
    """CPUs and GPUs of each of so many training workers, by what each living node has.

    Raises WrongInput where they do not fit, since Ray would wait for ever.
    """
    gpus = any(node.get("GPU") for node in nodes)
    room = [int(node.get("CPU", 0)) for node in nodes if node.get("GPU") or not gpus]
    cpus = max(min(threads, sum(room) // workers, max(room, default=0)), 1)
    while cpus > 1 and places(nodes, cpus, gpus) < workers:  # fewer CPUs each, where that lets more of them fit a node
        cpus -= 1
    if workers > (there := places(nodes, cpus, gpus)):
        raise WrongInput(f"training.workers={workers}, but the cluster has {there} {'GPUs' if gpus else 'CPUs'}")
    return cpus, {"GPU": 1} if gpus else {}
