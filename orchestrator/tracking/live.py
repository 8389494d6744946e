"""What MLflow gets while a launch runs: its runs, and the losses, learning rates and speeds of their trainings.

A thread of its own looks at the trainings' notes, so a server that is slow or dead costs the launch nothing. The runs have the
same tags as those of `track`, which completes them.
"""

import logging
import threading
import time
import traceback
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.planning.planned_stage import PlannedStage
from orchestrator.planning.prepared import Prepared
from orchestrator.reading.hidden import hidden
from orchestrator.storage.place import PROGRESS
from orchestrator.storage.store import read_json
from orchestrator.tracking.points import Note, points
from orchestrator.tracking.tracking import database_uri

EVERY = 2.0  # seconds between two looks
PAUSE = 60.0  # seconds until a server that failed is asked again
PATIENCE = 5.0  # seconds that the end of a launch waits for the last points


@dataclass
class _Followed:
    """A run with the title of its launch, its trainings and their last notes, and its ids in MLflow once it is open there."""

    run: Prepared
    title: str
    trainings: Sequence[PlannedStage]
    ids: Sequence[str] = ()
    notes: dict[str, Note] = field(default_factory=dict)

    def news(self) -> Iterator[tuple[str, float, int, int]]:
        """The points of notes that are new since the last call."""
        for step in self.trainings:
            note = read_json(step.folder / PROGRESS)
            if note and "at" in note and note != self.notes.get(step.key):  # without a time: of an older version
                yield from points(step.stage.name, note, self.notes.get(step.key))
                self.notes[step.key] = note


class Live:
    """Follows runs during a `with` block and copies them to MLflow at `uri` ("" is the store's own database, None nothing).

    `sweep` is the name of the sweep that the runs are trials of, if any.
    """

    def __init__(self, store: Path, uri: str | None, sweep: str = ""):
        self.store, self.uri, self.sweep = store, uri, sweep
        self.followed: list[_Followed] = []
        self.made: deque[str] = deque()  # finished runs that are to be delivered
        self.finished, self.ends = set[str](), dict[str, str]()  # runs with results, and the status of those that ended without
        self.experiment: Any = None  # of all runs, because they have one image set
        self.ended, self.reached, self.killed = threading.Event(), False, False
        self.thread = threading.Thread(target=self._work, name="live metrics", daemon=True)

    def __enter__(self) -> "Live":
        if self.uri is not None:
            self.began = time.time()
            self.thread.start()
        return self

    def __exit__(self, kind: object, *rest: object) -> None:
        self.killed = bool(kind)
        if kind:
            self.end((run for followed in self.followed if (run := followed.run.run) not in self.finished), "KILLED")
        self.ended.set()
        if self.reached:  # a server that never answered is not waited for
            self.thread.join(PATIENCE)

    def follow(self, runs: Sequence[Prepared], title: str = "") -> None:
        """Copy these runs from now on, as far as there is something to make; `title` names their launch."""
        for run in runs:
            missing = [step for step in run.steps if not step.cached]
            if missing:
                trainings = [step for step in missing if step.stage.recipe.kind == "train"]
                self.followed.append(_Followed(run, title, trainings))

    def deliver(self, runs: Iterable[str]) -> None:
        """Deliver the results of these finished runs while others go on."""
        delivered = list(runs)
        self.finished.update(delivered)
        self.made.extend(delivered)

    def end(self, runs: Iterable[str], status: str) -> None:
        """Note that these runs ended without results: FAILED or KILLED."""
        self.ends = dict.fromkeys(runs, status) | self.ends

    def _work(self) -> None:
        last = False
        while not last:
            last = self.ended.wait(EVERY)  # after the end comes one more look
            try:
                self._look()
                if last:
                    self._close()
            except Exception as error:  # no failure here may spoil hours of computing
                logging.info("live metrics are not delivered: %s", hidden("".join(traceback.format_exception(error))))
                last = last or self.ended.wait(PAUSE)

    def _look(self) -> None:
        from orchestrator.tracking.track import track_run  # loads MLflow

        made = list(self.made)  # those that are made meanwhile are not open yet
        for followed in list(self.followed):
            self._log(followed)
        for run in made:
            track_run(self.store, run, self._uri)
            self.made.popleft()

    def _log(self, followed: _Followed) -> None:
        """Open a run, so that it is seen before its first note, and log the news of its trainings."""
        from orchestrator.tracking.track import Beginning, begin, log_points

        experiment = self._experiment(followed.run)
        if not followed.ids:
            if self.ended.is_set():
                return  # the launch delivers the run itself, if it has results
            request = followed.run.request
            about = Beginning(followed.run.run, request.method, request.random_seed, int(self.began * 1000))
            followed.ids = begin(experiment, self.store, about, followed.title, self.sweep)
        log_points(experiment, followed.ids[0], list(followed.news()))

    def _close(self) -> None:
        """Give runs that ended without results their status."""
        for followed in self.followed:
            if followed.ids and (status := self.ends.get(followed.run.run)):
                for id in followed.ids if self.killed else followed.ids[:2]:  # the sweep goes on without a trial
                    self._experiment(followed.run).client.set_terminated(id, status)

    def _experiment(self, run: Prepared) -> Any:
        from orchestrator.tracking.track import experiment_of

        self.experiment = self.experiment or experiment_of(self.store, run.images.name, self._uri)
        self.reached = True
        return self.experiment

    @property
    def _uri(self) -> str:
        return self.uri or database_uri(self.store)
