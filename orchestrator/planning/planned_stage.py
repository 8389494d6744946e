"""One stage of a plan: its key, its result if there is one, and in words why there is none."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imagesets.item_list import ItemList
from orchestrator.planning.estimate import Estimate
from orchestrator.planning.siblings import Sibling
from orchestrator.planning.stage import Stage
from orchestrator.storage.store import digest


@dataclass
class PlannedStage:
    """One stage of a plan. A result over a list that holds its images counts as its own result."""

    stage: Stage
    key: str
    identity: dict[str, Any]  # the key is the hash of this
    folder: Path  # of its result
    items: ItemList
    inputs: dict[str, "PlannedStage"]
    manifest: dict[str, Any] | None = None  # the manifest of a finished result that still fits its inputs
    siblings: Sequence[Sibling] = ()  # results over other lists, from which a missing result takes over records
    reason: str = ""  # why it will run
    estimate: Estimate | None = None  # what making it will take, if an earlier result tells
    run: str = ""  # the name of its run, if the launch has several

    @property
    def name(self) -> str:
        """The stage's name in messages."""
        return f"{self.stage.name} [{self.run}]" if self.run else self.stage.name

    @property
    def cached(self) -> bool:
        """Whether the result exists and is current."""
        return self.manifest is not None

    @property
    def family(self) -> str:
        """The key; for a per-image stage the key without the images, which is the same over all lists."""
        return digest_of({**self.identity, "images": None}) if self.stage.recipe.per_image else self.key

    @property
    def result(self) -> str:
        """The key of its result: its own, or that of the wider list."""
        return self.manifest["key"] if self.manifest else self.key

    @property
    def needs(self) -> list[str]:
        """The keys of the results that making or reading it needs: its own, and those over other lists."""
        return [self.key, self.result, *(sibling.manifest["key"] for sibling in self.siblings)]

    @property
    def taken_over(self) -> int:
        """The number of images whose records results over other lists have."""
        return sum(sibling.count for sibling in self.siblings)

    @property
    def made_from(self) -> dict[str, str | None]:
        """The origin of each input."""
        return {word: source.origin for word, source in self.inputs.items()}

    @property
    def origin(self) -> str | None:
        """What readers note of its result; None if it is unknown before the result is made.

        Of a per-image stage it is what the records are made from, which is the same over every list; else the result's digest.
        """
        if self.stage.recipe.per_image:
            return None if None in self.made_from.values() else digest_of(self.made_from)
        return self.manifest["digest"] if self.manifest else None


def ancestors(step: PlannedStage) -> dict[str, PlannedStage]:
    """All stages behind a stage, by key, and last the stage itself."""
    found: dict[str, PlannedStage] = {}
    for source in step.inputs.values():
        found |= ancestors(source)
    return found | {step.key: step}


def digest_of(content: Any) -> str:
    """The digest of what JSON can hold."""
    return digest(json.dumps(content, sort_keys=True).encode())


def reason(step: PlannedStage, newest: Mapping[str, Any] | None) -> str:
    """Why a stage is not cached: its differences from the newest result of that name."""
    if step.siblings:
        return f"{step.taken_over} of its {len(step.items)} images are taken over"
    waiting = [source.stage.name for source in step.inputs.values() if not source.cached]
    if newest is None:
        return "not made yet"
    if newest["key"] == step.key:
        return "its inputs were made anew"
    before, now = newest["identity"], step.identity
    changed = [*_changed_settings(step, newest), *_changed_contents(step, newest)]
    if before["random_seed"] != now["random_seed"]:
        changed.append(f"random seed {before['random_seed']} -> {now['random_seed']}")
    if not changed and before["inputs"] != now["inputs"]:
        changed.append("its input " + " and ".join(waiting or step.inputs) + " changed")
    return "stale because " + ", ".join(changed) if changed else "not made yet"


def _changed_settings(step: PlannedStage, newest: Mapping[str, Any]) -> Iterator[str]:
    """The settings that differ; a file or a function whose content alone differs has kept its name."""
    before, now = newest["identity"]["settings"], step.identity["settings"]
    old, new = before | newest.get("names", {}), now | step.stage.names
    for name in sorted({*old, *new}):
        if old.get(name) != new.get(name):
            yield f"{name} {old.get(name, 'unset')} -> {new.get(name, 'unset')}"
        elif before.get(name) != now.get(name):
            yield f"{name} {new[name]} changed"


def _changed_contents(step: PlannedStage, newest: Mapping[str, Any]) -> Iterator[str]:
    """Code, classes, and the files of the same list that differ."""
    before, now = newest["identity"], {**step.identity, "classes": list(step.identity["classes"])}
    names = {"code": "the code it runs", "classes": "the classes"}
    if newest["list"] == step.stage.list_name:
        names |= {"images": "the images or labels", "masks": "the masks"}
    return (f"{what} changed" for name, what in names.items() if before[name] != now[name])
