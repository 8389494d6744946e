"""What a missing stage will take: what an earlier result of that name took, in proportion to its images or training steps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.storage.store import seconds

LENGTH = ("epochs", "iterations", "batch")  # settings that say how long a training is


@dataclass(frozen=True)
class Estimate:
    """CPU seconds, wall seconds on the processes that the earlier result had, and in words which result that was."""

    cpu: float
    wall: float
    source: str


def estimate(
    kind: str, identity: Mapping[str, Any], images: int, left: int, results: Sequence[Mapping[str, Any]]
) -> Estimate | None:
    """The estimate of a stage of a `kind` over `images` images, of which `left` are to be made; None if nothing is known.

    `identity` is what its key is made of, `results` are the manifests of results of its name. It takes the one with the fewest
    other settings, the newest of these, and only those whose seconds are of all their work.
    """
    known = [made for made in results if seconds(made, "wall") is not None and _work(kind, made["identity"], made["items"])]
    work = _work(kind, identity, images)
    if not known or not work:
        return None
    nearest = min(known, key=lambda made: (len(_others(identity, made["identity"])), -made["finished"]))
    factor = work / _work(kind, nearest["identity"], nearest["items"]) * left / images
    return Estimate(nearest["cpu"] * factor, nearest["wall"] * factor, _source(kind, identity, nearest))


def _work(kind: str, identity: Mapping[str, Any], images: int) -> int:
    """The images that a stage computes: of a training those of all steps, else each once; 0 if its settings do not tell."""
    settings = identity["settings"]
    if kind != "train":
        return images
    batch = settings.get("batch", 1)
    steps = settings["iterations"] if "iterations" in settings else settings.get("epochs", 0) * (images // batch)
    return steps * batch


def _others(identity: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """The settings that two stages do not have in common, without those that `_work` counts."""
    own, its = identity["settings"], other["settings"]
    return sorted(name for name in own.keys() | its.keys() if name not in LENGTH and own.get(name) != its.get(name))


def _source(kind: str, identity: Mapping[str, Any], made: Mapping[str, Any]) -> str:
    work = _work(kind, made["identity"], made["items"])
    about = f"{work} images in all steps" if kind == "train" else f"{made['items']} images"
    about += f" on {made['device']}" if made["device"] != "cpu" else ""
    others = _others(identity, made["identity"]) + ["images"] * (identity["images"] != made["identity"]["images"])
    return f"{about}, other {', '.join(others)}" if others else about
