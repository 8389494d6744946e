"""Runs that differ only in their random seed as one: mean, standard deviation and range of every score.

A failed run is listed and not part of the mean.
"""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imagesets.errors import WrongInput
from orchestrator.planning import scores
from orchestrator.reading.protocol import measured
from orchestrator.reading.results import FAILED
from orchestrator.storage.store import read_json, write_json

Scored = tuple[str, str]  # a quantity and the list that it is scored on


@dataclass(frozen=True)
class Spread:
    """The values of one figure over runs, by random seed, as fractions or in the figure's unit."""

    by_seed: Mapping[int, float]

    @property
    def n(self) -> int:
        """The number of runs."""
        return len(self.by_seed)

    @property
    def mean(self) -> float:
        """The mean."""
        return statistics.fmean(self.by_seed.values())

    @property
    def std(self) -> float | None:
        """The standard deviation, divided by n - 1; one value has none."""
        return statistics.stdev(self.by_seed.values()) if self.n > 1 else None

    @property
    def minimum(self) -> float:
        """The lowest value."""
        return min(self.by_seed.values())

    @property
    def maximum(self) -> float:
        """The highest value."""
        return max(self.by_seed.values())

    def minus(self, other: "Spread") -> "Spread | None":
        """The paired differences over the common random seeds, if there are any."""
        shared = sorted(self.by_seed.keys() & other.by_seed.keys())
        return Spread({seed: self.by_seed[seed] - other.by_seed[seed] for seed in shared}) if shared else None


@dataclass(frozen=True)
class Row:
    """One score over all runs of a group; `about` is its row in the first run's results."""

    about: Mapping[str, Any]
    runs: Mapping[int, Mapping[str, Any]]  # the same row of each run's results, by random seed
    scores: Mapping[str, Spread]  # by metric
    per_class: Mapping[str, Spread]  # by class: the score whose mean is the main metric
    left_out: Sequence[int] = ()  # random seeds whose score is on other images or masks, or under another protocol

    @property
    def main(self) -> Spread | None:
        """The main metric; None if no run has it."""
        return self.scores.get(scores.main(self.about["quantity"]))


@dataclass(frozen=True)
class Group:
    """The runs of one experiment by random seed, and the errors of failed runs."""

    name: str
    runs: Sequence[Mapping[str, Any]]
    failed: Mapping[int, str]

    @property
    def first(self) -> Mapping[str, Any]:
        """The results of one run, for the common facts of all."""
        return self.runs[0]

    def rows(self) -> list[Row]:
        """A row for each score of the first run, over the runs that have it on the same masks under the same protocol."""
        return [_row(about, self.runs) for about in self.first["rows"]]

    def last(self) -> dict[Scored, Row]:
        """The last row of each quantity on each list: the final results."""
        return {(row.about["quantity"], row.about["split"]): row for row in self.rows()}


def group_of(runs: Iterable[Mapping[str, Any]], failed: Mapping[int, str] | None = None) -> Group:
    """A group from the results of runs that differ in their random seed."""
    ordered = sorted(runs, key=lambda run: run["random_seed"])
    return Group(group_name(ordered[0]["run"]), ordered, failed or {})


def places(found: Iterable[Mapping[Scored, Row]]) -> list[Scored]:
    """All places in several `Group.last`, in the order of the longest one."""
    ordered = sorted(found, key=len, reverse=True)
    return list(dict.fromkeys(place for last in ordered for place in last))


def group_name(run: str) -> str:
    """A run's name without its random seed."""
    return run.rpartition("-")[0]


def note_failure(folder: Path, error: Exception) -> str:
    """Note a run's failure in its folder, for later reports on the group; returns it as a sentence."""
    with suppress(OSError, WrongInput):  # if the store cannot be written, this is probably why the run failed
        write_json(folder / FAILED, {"error": sentence(error)})
    return sentence(error)


def failure_in(folder: Path) -> str | None:
    """The failure of the run in `folder` at its last try, if any."""
    note = read_json(folder / FAILED)
    return note["error"] if note else None


def sentence(error: BaseException) -> str:
    """An error in one line, with its stage; a refusal without the name of its class."""
    where = f" ({'; '.join(notes)})" if (notes := getattr(error, "__notes__", [])) else ""
    kind = "" if isinstance(error, WrongInput) else f"{type(error).__name__}: "
    return f"{kind}{' '.join(str(error).split())}{where}"


def _row(about: Mapping[str, Any], runs: Sequence[Mapping[str, Any]]) -> Row:
    there = {run["random_seed"]: row for run in runs for row in run["rows"] if _place(row) == _place(about)}
    same = {seed: row for seed, row in there.items() if is_repeat(row, about)}
    main = scores.main_metric(about["quantity"])
    found = {name: spread_of({seed: row["metrics"].get(name) for seed, row in same.items()}) for name in about["metrics"]}
    if "oracle" in about:
        name = scores.main(about["quantity"])
        found["oracle"] = spread_of({seed: row["oracle"][name] for seed, row in same.items()})
    classes = about.get("per_class", {})
    per_class = {
        name: spread_of({seed: row["per_class"][name].get(main.per_class) for seed, row in same.items()}) for name in classes
    }
    return Row(about, same, _defined(found), _defined(per_class), sorted(there.keys() - same.keys()))


def _place(row: Mapping[str, Any]) -> tuple[str, ...]:
    return row["quantity"], row["stage"], row["split"]


def is_repeat(row: Mapping[str, Any], about: Mapping[str, Any]) -> bool:
    """Whether two runs' rows are of one score on the same images and masks under the same protocol."""
    same_masks, same_protocol = row["masks"] == about["masks"], measured(row["protocol"]) == measured(about["protocol"])
    return _place(row) == _place(about) and same_masks and same_protocol


def spread_of(values: Mapping[int, float | None]) -> Spread | None:
    """The values by random seed without undefined ones; `n` counts the rest. None if no run has a value."""
    known = {seed: value for seed, value in values.items() if value is not None}
    return Spread(known) if known else None


def _defined(spreads: Mapping[str, Spread | None]) -> dict[str, Spread]:
    return {name: spread for name, spread in spreads.items() if spread}
