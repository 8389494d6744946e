"""Several groups of runs beside one another: scores with their spread, paired differences to the first, what is published, and
where their protocols differ.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.planning.published import published
from orchestrator.planning.recipes import Published
from orchestrator.reading.results import used_settings
from orchestrator.reading.summary import Group, Row, Spread

QUANTITIES = ("seed", "pseudo", "seg")
METRICS = ("miou", "precision", "recall", "fp", "fn")
METHODS_OWN = ("threshold", "weights of the maps")  # what a method brings with it rather than how it is measured


@dataclass(frozen=True)
class Entry:
    """One group of runs under the name that tells it from the others."""

    label: str
    group: Group
    last: Mapping[str, Row]  # of each quantity the row that the run comes to


@dataclass(frozen=True)
class Line:
    """One entry's result of one quantity; `difference` holds the paired differences to the first entry, by metric."""

    entry: Entry
    row: Row
    difference: Mapping[str, Spread]
    published: Published | None


@dataclass(frozen=True)
class Comparison:
    """Entries, their lines by quantity, and what makes lines hard to compare."""

    entries: Sequence[Entry]
    lines: Mapping[str, Sequence[Line]]
    warnings: Sequence[str]


def compare(groups: Sequence[Group]) -> Comparison:
    """Put groups beside one another; the first is what the others are measured by."""
    entries = [
        Entry(label, group, {row.about["quantity"]: row for row in group.rows()})
        for label, group in zip(labels(groups), groups, strict=True)
    ]
    lines = {
        quantity: [_line(entry, entries[0], quantity) for entry in entries if quantity in entry.last] for quantity in QUANTITIES
    }
    lines = {quantity: found for quantity, found in lines.items() if found}
    return Comparison(entries, lines, _warnings(entries, lines))


def labels(groups: Sequence[Group]) -> list[str]:
    """Each group's method, with the settings that differ among groups of the same method."""
    named = []
    for group in groups:
        same = [used_settings(other.first) for other in groups if other.first["method"] == group.first["method"]]
        own = used_settings(group.first)
        differing = [name for name in own if any(other.get(name) != own[name] for other in same)]
        named.append(" ".join([group.first["method"], *(f"{name}={own[name]}" for name in differing)]))
    own_names = [group.first["run"] if len(group.runs) == 1 else group.name for group in groups]
    return [label if named.count(label) == 1 else name for label, name in zip(named, own_names, strict=True)]


def _line(entry: Entry, baseline: Entry, quantity: str) -> Line:
    row, about = entry.last[quantity], entry.last[quantity].about
    difference = {}
    if entry is not baseline and quantity in baseline.last:
        other = baseline.last[quantity].scores
        pairs = {name: spread.minus(other[name]) for name, spread in row.scores.items() if name in other}
        difference = {name: pair for name, pair in pairs.items() if pair is not None}
    metric, results = f"{quantity}.miou/{about['split']}", entry.group.first
    return Line(entry, row, difference, published(results["images"], metric, about["components"], results["segmenter"]))


def _warnings(entries: Sequence[Entry], lines: Mapping[str, Sequence[Line]]) -> list[str]:
    found = []
    for quantity, compared in lines.items():
        protocols = [_protocol(line) for line in compared]
        names = dict.fromkeys(name for protocol in protocols for name in protocol if name not in METHODS_OWN)
        for name in names:
            values = [str(protocol.get(name, "not stated")) for protocol in protocols]
            if len(set(values)) > 1:
                told = "; ".join(f"{line.entry.label}: {value}" for line, value in zip(compared, values, strict=True))
                found.append(f"the protocols of {quantity} differ in {name} ({told})")
    if len({tuple(run["random_seed"] for run in entry.group.runs) for entry in entries}) > 1:
        told = "; ".join(f"{entry.label}: {_seeds(entry)}" for entry in entries)
        found.append(f"not all have the same random seeds ({told}); differences are over those that both have")
    for entry in entries:
        found += [f"{entry.label}, random seed {seed} failed: {note}" for seed, note in entry.group.failed.items()]
    return found


def _protocol(line: Line) -> dict[str, Any]:
    """What a line was measured on and how; the component's own settings by bare name, so that they meet those of another one."""
    about = line.row.about
    prefix = f"{about['component']}."
    protocol = {name.removeprefix(prefix): value for name, value in about["protocol"].items()}
    if about["quantity"] == "seed" and "weights" in protocol:
        protocol["weights of the maps"] = protocol.pop("weights")
    return {"image set": line.entry.group.first["command"]["images"], **protocol}


def _seeds(entry: Entry) -> str:
    return ", ".join(str(run["random_seed"]) for run in entry.group.runs)
