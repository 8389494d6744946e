"""Groups of finished runs, found by name."""

from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from imagesets.errors import WrongInput
from orchestrator.planning.components import spelled
from orchestrator.planning.nearest import nearest
from orchestrator.reading.runs import FinishedRun, current, open_run, read_results, result_files
from orchestrator.reading.summary import Group, failure_in, group_name, group_of
from orchestrator.storage.place import LOG, RECORD
from orchestrator.storage.store import check_store, read_json


class Runs:
    """The runs below `<store>/runs`, read once, without those that are removed meanwhile."""

    def __init__(self, store: Path):
        self.store = store
        self.results = {path.parent.name: found for path in result_files(store) if (found := read_results(path))}

    def one(self, name: str) -> Mapping[str, Any]:
        """The results of the run called `name`."""
        if name not in self.results:
            check_store(self.store)
            raise WrongInput(f"{self.store} has no finished run {name!r}{nearest(name, self.results)}")
        return current(self.results[name])

    def group(self, name: str) -> Group:
        """One run, the runs of a launch (a run's name without its random seed), or a method expression's newest launch."""
        if name in self.results:
            return group_of([self.one(name)])
        if of_method := self.of_method(name):
            name = group_name(of_method[0]["run"])
        found = [self.one(run) for run in self.results if group_name(run) == name]
        if not found:
            check_store(self.store)
            known = {*self.results, *map(group_name, self.results), *(results["method"] for results in self.results.values())}
            raise WrongInput(f"{self.store} has no finished run of {name!r}{nearest(name, known)}")
        return group_of(found, self._failed(name))

    def of_method(self, expression: str) -> list[Mapping[str, Any]]:
        """The results of all runs of a method expression, the newest first, and trials of sweeps after all launches.

        Blanks in the expression do not count.
        """
        found = [results for results in self.results.values() if spelled(results["method"]) == spelled(expression)]
        return sorted(found, key=lambda run: (group_name(run["run"]) not in self._trials, run["finished"]), reverse=True)

    def chosen(self, name: str) -> str:
        """Which runs a method expression stands for, if there are several launches or trials of it; "" for any other name."""
        found = [] if name in self.results else list(dict.fromkeys(group_name(run["run"]) for run in self.of_method(name)))
        if len(found) < 2:
            return ""
        trials = sum(group in self._trials for group in found)
        launches = len(found) - trials
        of = f"{launches} launches" if launches else f"{trials} trials of sweeps"
        told = f"{name} stands for {found[0]}, {'the only launch' if launches == 1 else f'the newest of {of}'}"
        return f"{told}; trials of sweeps come after launches" if launches and trials else told

    @cached_property
    def _trials(self) -> set[str]:
        """The groups of runs that only sweeps have made; a launch leaves a log beside its first run."""
        sweeps = filter(None, map(read_json, (self.store / "sweeps").glob(f"*/{RECORD}")))
        launched = {group_name(path.parent.name) for path in (self.store / "runs").glob(f"*/{LOG}")}
        return {trial["group"] for sweep in sweeps for trial in sweep["trials"]} - launched

    def newest(self, name: str, quantity: str = "") -> FinishedRun:
        """The first run of a launch or of a method expression's newest launch that has made `quantity`, or else of the newest."""
        launches = dict.fromkeys(group_name(results["run"]) for results in self.of_method(name)) or [name]
        runs = (open_run(self.store, self.group(launch).first["run"]) for launch in launches)
        newest = next(runs)
        if quantity and not newest.has(quantity):
            with suppress(WrongInput):  # an earlier version made a run
                return next((run for run in runs if run.has(quantity)), newest)
        return newest

    def _failed(self, group: str) -> dict[int, str]:
        folders = [path for path in (self.store / "runs").iterdir() if group_name(path.name) == group]
        notes = {int(folder.name.rpartition("-")[2]): failure_in(folder) for folder in folders}
        return {seed: note for seed, note in notes.items() if note is not None}


def find_run(store: Path, name: str, quantity: str = "") -> FinishedRun:
    """The run called `name`, or the run of the lowest random seed of a launch or of a method expression's newest launch.

    With `quantity`, it is the newest launch that has made it: another may have ended earlier by `--until`.
    """
    if not any(path.parent.name == name for path in result_files(store)):
        known = Runs(store)
        if known.of_method(name) or name in map(group_name, known.results):
            return known.newest(name, quantity)
    return open_run(store, name)
