"""`sweep.json`: what a sweep is, the settings of every trial that was begun, and what has become of those that ended."""

import threading
from collections.abc import Mapping
from typing import Any

from orchestrator.storage.store import read_json, write_json
from orchestrator.sweeps.axes import THRESHOLD
from orchestrator.sweeps.sweep import Sweep

FORMAT = 2


class Record:
    """The trials of a sweep by number, those of earlier commands too; callable from several threads."""

    def __init__(self, sweep: Sweep):
        self.sweep, self.lock = sweep, threading.Lock()
        known = read_json(sweep.folder / "sweep.json") or {"begun": [], "trials": []}
        self.begun: list[dict[str, Any]] = known["begun"]  # the settings of each
        self.trials: dict[int, dict[str, Any]] = {trial["number"]: trial for trial in known["trials"]}

    def begin(self, number: int, values: dict[str, Any]) -> None:
        """Note that a trial begins with these settings, which it keeps when it is gone on with."""
        with self.lock:
            self.begun[number:] = [values, *self.begun[number + 1 :]]
            self._write()

    def end(self, number: int, group: str, failed: Mapping[int, str], stopped: str) -> None:
        """Note what a trial came to: the name of its runs, why some failed by random seed, and why it was stopped early."""
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
        write_json(sweep.folder / "sweep.json", {**about, "begun": self.begun, "trials": trials})
