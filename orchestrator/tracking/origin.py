"""The origin of a run, for the columns Source and Dataset of MLflow's tables. Imports no MLflow."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from imagesets.image_set import UNION

ROLES = ("training", "fitting", "scoring", "validation", "selection", "classification")
SHORT = 12  # characters of a fingerprint; MLflow takes 36


@dataclass(frozen=True)
class ImageList:
    """An image list as a dataset of MLflow: its name, the digest of its content, its path, and its purpose."""

    name: str
    digest: str
    source: str
    profile: str
    context: str


def source(results: Mapping[str, Any], manifests: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """The tags of the column Source: the command without paths, because the table shows only the last part of a path."""
    commits = [manifest["commit"] for manifest in manifests.values() if manifest.get("commit")]
    tags = {"mlflow.source.name": f"wsss-orch launch --method {results['method']}", "mlflow.source.type": "LOCAL"}
    return tags | ({"mlflow.source.git.commit": commits[-1]} if commits else {})


def image_lists(results: Mapping[str, Any], manifests: Mapping[str, Mapping[str, Any]]) -> Iterator[ImageList]:
    """The lists of the run's stages, each once; the masks of a scored list count too."""
    kind, _, path = results["command"]["images"].partition(":")
    for name in dict.fromkeys(entry["list"] for entry in results["stages"]):
        over = [manifests[entry["stage"]] for entry in results["stages"] if entry["list"] == name and entry["stage"] in manifests]
        if not over or UNION in name:  # the lists of a union are those of other stages
            continue
        masks = next((manifest["identity"]["masks"] for manifest in over if manifest["identity"]["masks"]), "")
        yield ImageList(
            name=f"{results['images']} {name}",
            digest="-".join(part[:SHORT] for part in (over[0]["identity"]["images"], masks) if part),
            source=json.dumps({"kind": kind, "path": path, "list": name}),
            profile=json.dumps({"images": max(manifest["items"] for manifest in over), "classes": len(results["classes"])}),
            context=", ".join(role for role in ROLES if name in _lists(results["settings"].get(f"images.{role}"))),
        )


def _lists(value: Any) -> list[str]:
    return value if isinstance(value, list) else [value]
