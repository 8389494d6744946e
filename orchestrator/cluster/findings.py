"""The problems of a cluster's nodes, one sentence each, and the table of nodes."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table

from orchestrator.cluster.nodes import Node
from orchestrator.cluster.probe import SHOWN
from orchestrator.environment import GIGABYTE
from orchestrator.reading.tables import table

CLOCK = 5.0  # seconds; a lease expires after sixty
FREE = 1e9  # bytes


def problems(driver: Mapping[str, Any], nodes: Sequence[Node], store: str) -> list[str]:
    """One sentence for each problem that would stop these nodes, or make their results differ from the driver's."""
    return [f"{node.name}: {problem}" for node in nodes for problem in _problems(driver, node, store)]


def _problems(driver: Mapping[str, Any], node: Node, store: str) -> Iterator[str]:
    if node.silent:
        yield node.silent
        return
    yield from _differences(driver, node.found)
    if node.found["store"]:
        yield f"{store} is not the driver's: {node.found['store']}; every node must see the same there, and write to it"
    if node.unseen:
        yield f"the driver does not see what it writes to {store}; every node must see the same there"
    if node.skew > CLOCK:
        yield f"its clock is off by {node.skew:.0f} s or more, and leases go by the clock; set it by NTP"
    if node.found["free"] < FREE:
        yield f"{node.found['free'] / GIGABYTE:.1f} GB are free on the disk of {store}"
    yield from _gpu_problems(len(node.found["gpus"]), int(node.resources.get("GPU", 0)))


def _differences(driver: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[str]:
    """The differences between the node's software and the driver's."""
    had = {"Python": found["python"], **found["packages"]}
    wanted = {"Python": driver["python"], **driver["packages"]}
    for name, version in wanted.items():
        if had[name] != version:
            yield f"{name} {had[name] or 'is missing'}, the driver has {version or 'none'}; install the same on every node"
    if found["code"] != driver["code"]:
        yield (
            f"other code of wsss-orch ({found['code'] or 'none'}) than the driver's ({driver['code']}); install the "
            "same on every node, or `wsss-orch submit`, which sends it"
        )


def _gpu_problems(there: int, told: int) -> Iterator[str]:
    if there > told:
        yield f"{there} GPUs, of which Ray was told {told}; start Ray there with --num-gpus={there}"
    if told > there:
        yield f"Ray was told of {told} GPUs, nvidia-smi shows {there}; is the driver of NVIDIA installed there?"


def node_table(nodes: Sequence[Node]) -> Table:
    """A row for each node; unknown cells are empty."""
    made = table("node", ">CPUs", "GPUs", ">GB free", "Python", *SHOWN, "code", "store")
    for node in nodes:
        found = node.found
        if not found:
            made.add_row(node.name, f"{node.resources.get('CPU', 0):.0f}")
            continue
        cpus = f"{node.resources.get('CPU', 0):.0f} of {found['cpus']}"
        gpus = ", ".join(f"{name} {memory / 1024:.0f} GiB" for name, memory in found["gpus"]) or "none"
        seen = "another" if found["store"] or node.unseen else "the same"
        versions = (found["packages"][package] or "none" for package in SHOWN)
        made.add_row(
            node.name, cpus, gpus, f"{found['free'] / GIGABYTE:.0f}", found["python"], *versions, found["code"] or "none", seen
        )
    return made
