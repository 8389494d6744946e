"""The size of a cluster, and how much of it is in use."""

from typing import Any

from orchestrator.cluster.jobs import Client

RESOURCES = ("CPU", "GPU")


def usage(client: Client) -> str:
    """One line: nodes, CPUs and GPUs. What is in use is known if the head runs Ray's autoscaler, which is the default."""
    rows = client.get("/api/v0/nodes?detail=1")["data"]["result"]["result"]
    living = [row for row in rows if row["state"] == "ALIVE"]
    taken = _taken(client.get("/api/cluster_status")["data"])
    parts = [f"{len(living)} node{'s' if len(living) != 1 else ''}"]
    for name in RESOURCES:
        total = sum(row["resources_total"].get(name, 0) for row in living)
        if total or name == "CPU":
            parts.append(f"{taken[name]:.0f} of {total:.0f} {name}s in use" if name in taken else f"{total:.0f} {name}s")
    return ", ".join(parts)


def _taken(status: dict[str, Any]) -> dict[str, float]:
    report = (status.get("clusterStatus") or {}).get("loadMetricsReport") or {}
    return {name: amounts[0] for name, amounts in (report.get("usage") or {}).items() if name in RESOURCES}
