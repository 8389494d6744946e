"""Groups of runs side by side: scores, paired differences to the first group, published figures, differing protocols."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.planning import scores
from orchestrator.planning.published import figures_of
from orchestrator.planning.recipe import Published
from orchestrator.reading.protocol import DIGITS, THRESHOLD_BY
from orchestrator.reading.resampling import Interval, intervals
from orchestrator.reading.results import used_settings
from orchestrator.reading.rows_of_files import GivenRow, given_rows
from orchestrator.reading.summary import Group, Row, Scored, Spread, places
from orchestrator.storage.store import Store

METHODS_OWN = ("threshold", THRESHOLD_BY)  # the parts of a protocol that belong to the method and not to the measurement


@dataclass(frozen=True)
class Entry:
    """One group of runs, with a name that distinguishes it from the others."""

    label: str
    group: Group
    last: Mapping[Scored, Row]  # the last row of each quantity and list


@dataclass(frozen=True)
class Difference:
    """A paired difference to the first entry over their common random seeds, and its interval over the images."""

    spread: Spread
    interval: Interval | None


@dataclass(frozen=True)
class Line:
    """One entry's result, with published figures and differences by metric; no differences if the first has other images."""

    entry: Entry
    row: Row
    differences: Mapping[str, Difference]
    published: Mapping[str, Published]
    lost: bool = False  # the kept arrays of the images, which an interval needs, are no longer in the store

    @property
    def difference(self) -> Difference | None:
        """The difference of the main metric."""
        return self.differences.get(scores.main(self.row.about["quantity"]))


@dataclass(frozen=True)
class Comparison:
    """Entries, their lines by quantity and list, and warnings on lines that are hard to compare; `given` are rows of files."""

    entries: Sequence[Entry]
    lines: Mapping[Scored, Sequence[Line]]
    warnings: Sequence[str]
    given: Mapping[Scored, Sequence[GivenRow]] = field(default_factory=dict)

    @property
    def quantities(self) -> list[str]:
        """The quantities that are compared."""
        return list(dict.fromkeys(quantity for quantity, _ in self.lines))


def compare(groups: Sequence[Group], store: Store, files: Sequence[Path] = ()) -> Comparison:
    """Compare groups of runs of a store; differences are to the first. `files` have further rows (`reading.rows_of_files`)."""
    entries = [Entry(label, group, group.last()) for label, group in zip(labels(groups), groups, strict=True)]
    lines = {
        place: [_line(entry, entries[0], place, store) for entry in entries if place in entry.last]
        for place in places(entry.last for entry in entries)
    }
    given = given_rows(files, groups[0].first["images"], list(lines))
    unscored = [f"nothing of {entry.label} was scored" for entry in entries if not entry.last]
    return Comparison(entries, lines, [*unscored, *_warnings(entries, lines), *_failures(entries)], given)


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


def _line(entry: Entry, first: Entry, place: Scored, store: Store) -> Line:
    row, results = entry.last[place], entry.group.first
    quantity, split = place
    figures = figures_of(results["images_recipe"], quantity, split, row.about["components"], results["segmenter"])
    other = first.last.get(place)
    if entry is first or other is None or not _same_images(row, other):
        return Line(entry, row, {}, figures)
    found = intervals(row, other, store, results["classes"])
    over_images = found or {}
    pairs = {name: spread.minus(other.scores[name]) for name, spread in row.scores.items() if name in other.scores}
    differences = {name: Difference(pair, over_images.get(name)) for name, pair in pairs.items() if pair is not None}
    return Line(entry, row, differences, figures, lost=bool(differences) and found is None)


def _same_images(row: Row, other: Row) -> bool:
    return row.about["masks"] == other.about["masks"]


def _warnings(entries: Sequence[Entry], lines: Mapping[Scored, Sequence[Line]]) -> list[str]:
    found = []
    for (quantity, split), compared in lines.items():
        found += [*_other_images(quantity, split, compared), *_protocols(quantity, split, compared)]
        found += [
            f"{line.entry.label}, {quantity} on {split}: no interval over images, because their counts are no longer in the store"
            for line in compared
            if line.lost
        ]
        found += [
            f"{line.entry.label}, {quantity} on {split}: the score of random seed {_listed(line.row.left_out)} is left out, "
            f"because its images, masks or protocol differ from those of random seed {line.entry.group.first['random_seed']}"
            for line in compared
            if line.row.left_out
        ]
    return [*found, *_other_seeds(entries)]


def _other_seeds(entries: Sequence[Entry]) -> list[str]:
    """A sentence if the random seeds differ; only the seeds that an entry shares with the first make its difference."""
    first, *others = [{run["random_seed"] for run in entry.group.runs} for entry in entries]
    if all(seeds == first for seeds in others):
        return []
    told = "; ".join(f"{entry.label}: {_listed(run['random_seed'] for run in entry.group.runs)}" for entry in entries)
    apart = [entry.label for entry, seeds in zip(entries[1:], others, strict=True) if not seeds & first]
    endings = ["differences are over the common ones"] * (len(apart) < len(others))
    endings += [f"{label} has none in common with {entries[0].label}, so there is no difference between them" for label in apart]
    return [f"random seeds differ ({told}); {'; '.join(endings)}"]


def _other_images(quantity: str, split: str, compared: Sequence[Line]) -> list[str]:
    """Sentences on lines that have no difference to the first."""
    others = [line for line in compared[1:] if not _same_images(line.row, compared[0].row)]
    if not others:
        return []
    told = "; ".join(f"{line.entry.label}: {_images(line)}" for line in (compared[0], *others))
    return [f"{quantity} on {split} was scored on different images or masks ({told}), so there is no difference between them"]


def _images(line: Line) -> str:
    about, name = line.row.about, line.entry.group.first["images"]
    return f"{about['protocol']['images']} images of {name}, masks {about['masks'][:DIGITS]}"


def _protocols(quantity: str, split: str, compared: Sequence[Line]) -> list[str]:
    """A sentence for each part of the protocol in which methods differ; a part that a method does not have is no difference."""
    found, protocols = [], [_protocol(line.row.about) for line in compared]
    for name in dict.fromkeys(name for protocol in protocols for name in protocol):
        stated = [
            (line.entry.label, protocol[name]) for line, protocol in zip(compared, protocols, strict=True) if name in protocol
        ]
        if len({str(value) for _, value in stated}) > 1:
            told = "; ".join(f"{label}: {value}" for label, value in stated)
            found.append(f"the protocols of {quantity} on {split} differ in {name} ({told})")
    return found


def _protocol(about: Mapping[str, Any]) -> dict[str, Any]:
    """How a row was measured; the scored component's settings have bare names, to compare them with another component's."""
    prefix = f"{about['component']}."
    told = {"supervision": "no saliency maps", **about["protocol"]}  # only a result that used them says so
    bare = {name.removeprefix(prefix): value for name, value in told.items()}
    return {name: value for name, value in bare.items() if name not in (*METHODS_OWN, "images")}


def _failures(entries: Sequence[Entry]) -> list[str]:
    return [f"{entry.label}, random seed {seed} failed: {note}" for entry in entries for seed, note in entry.group.failed.items()]


def _listed(seeds: Iterable[int]) -> str:
    return ", ".join(map(str, seeds))
