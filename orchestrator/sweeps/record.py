"""`sweep.json`: a description of the sweep, the settings of every trial that has begun, and the results of those that ended."""

import threading
from collections.abc import Mapping
from typing import Any

from orchestrator.storage.place import RECORD
from orchestrator.storage.store import read_json, write_json
from orchestrator.sweeps.axes import THRESHOLD
from orchestrator.sweeps.sweep import Sweep

FORMAT = 2


class Record:
    """The trials of a sweep by number, with those of earlier commands; several threads may call it."""

    def __init__(self, sweep: Sweep):
        self.sweep, self.lock = sweep, threading.Lock()
        known = read_json(sweep.folder / RECORD) or {"begun": [], "trials": []}
        self.begun: list[dict[str, Any]] = known["begun"]  # the settings of each
        self.trials: dict[int, dict[str, Any]] = {trial["number"]: trial for trial in known["trials"]}

    def begin(self, values: dict[str, Any]) -> None:
        """Note the settings of the next trial; a later command continues it with the same ones."""
        with self.lock:
            self.begun.append(values)
            self._write()

    def end(self, number: int, group: str, failed: Mapping[int, str], stopped: str) -> None:
        """Note the end of a trial: the name of its runs, the error of each failed random seed, and why it was stopped early."""
        with self.lock:
            trial = {"number": number, "values": self.begun[number], "group": group, "failed": failed, "stopped": stopped}
            self.trials[number] = trial
            self._write()

    def _write(self) -> None:
        sweep = self.sweep
        about = {
            "format": FORMAT,
            "name": sweep.name,
            "method": sweep.request.method,
            "images": sweep.images,
            "axes": [{"name": axis.name, "values": list(axis.values), "distribution": axis.distribution} for axis in sweep.axes],
            THRESHOLD: list(sweep.thresholds) if sweep.thresholds else None,
            "random_seeds": list(sweep.random_seeds),
        }
        trials = [self.trials[number] for number in sorted(self.trials)]
        write_json(sweep.folder / RECORD, {**about, "begun": self.begun, "trials": trials})
