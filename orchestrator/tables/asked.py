"""A table that was asked for, on an image set, and what each of its rows asks for."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from imagesets.errors import WrongInput
from orchestrator.planning.components import BASE_NETWORK
from orchestrator.planning.experiment import Request, settings_given
from orchestrator.planning.images import images_name
from orchestrator.planning.prepared import name_in_store
from orchestrator.planning.settings import parse_assignments
from orchestrator.tables.catalogue import chosen, matches
from orchestrator.tables.columns import SERVER, Column
from orchestrator.tables.table_recipe import Row, Table

LABELS = "images.classification"  # the setting of the one list on which classifications of images are scored
PARTED = re.compile(r"(?:(.*?): *)??([\w-]+\.[\w.-]+ *=.*)", re.DOTALL)  # a pattern may hold = too, as in "K = 20"
OWN = "own"  # the segmenter of a single stage, which no other replaces


@dataclass(frozen=True)
class Asked:
    """A table, where it runs, and what the user gives for all of its rows."""

    table: Table
    images: str
    store: Path
    segmenter: str = ""  # in place of those of the rows
    recipe: str = ""
    assignments: tuple[str, ...] = ()  # key=value, or PATTERN:key=value for the rows that match
    random_seeds: tuple[int, ...] = ()  # none: one run, or as many as a row of a table of our own says
    patterns: tuple[str, ...] = ()  # the rows that run; none: all
    exclude: Path | None = None
    cluster: bool = False

    @property
    def kind(self) -> str:
        """The kind of image set."""
        return self.images.partition(":")[0]

    @property
    def elsewhere(self) -> bool:
        """Whether the published values are of another image set."""
        return self.kind != self.table.images

    @cached_property
    def _of_images(self) -> dict[str, Any]:
        """The settings without those of rows, among them the image set's."""
        return settings_given(Request(BASE_NETWORK, self.images, assignments=self._given(None)))

    @property
    def images_name(self) -> str:
        """The name of the image set."""
        return images_name(self.images, self._of_images)

    @property
    def parted(self) -> list[tuple[str, str]]:
        """The assignments, each with the pattern of the rows that it is for; "" for all."""
        return [parted(text) for text in self.assignments]

    @property
    def name(self) -> str:
        """The name of its page and log: table, image set, and a hash of what else was given."""
        given = (self.segmenter, self.recipe, self.assignments, self.random_seeds, str(self.exclude))
        return name_in_store(self.table.id, self.images_name, (self.images, *given))

    @property
    def folder(self) -> Path:
        """The folder of its page and log."""
        return self.store / "reports" / self.name

    @cached_property
    def chosen(self) -> list[Row]:
        """The rows that run."""
        return chosen(self.table, self.patterns)

    def seeds(self, row: Row) -> list[int]:
        """The random seeds of a row."""
        own = row.runs if self.table.own and isinstance(row.runs, int) else 1
        return list(self.random_seeds) or list(range(own))

    def request(self, row: Row) -> Request:
        """What a row asks for, with the first random seed."""
        named = self.segmenter if row.segmenter != OWN else ""
        request = Request(
            method=row.expression,
            images=self.images,
            segmenter=named or row.segmenter or self.table.segmenter,
            recipe=self.recipe or self.table.recipe,
            assignments=self._given(row),
            random_seed=self.seeds(row)[0],
            store=self.store,
            exclude=self.exclude,
            cluster=self.cluster,
            weak_segmenter=not named,
        )
        return replace(request, assignments=(*self._lists, *request.assignments, *self._settings(row, request)))

    def _given(self, row: Row | None) -> tuple[str, ...]:
        """The assignments of `--set` for a row; those for all rows if there is none."""
        return tuple(text for pattern, text in self.parted if not pattern or (row and matches(row, pattern)))

    @cached_property
    def _lists(self) -> list[str]:
        """Assignments of the lists that the columns need beside those that are scored anyway."""
        given, needed = self._of_images, _lists_of(self.table)
        labelled = needed.pop(LABELS, [])
        several = [f"{name}={json.dumps(list(dict.fromkeys([*given[name], *lists])))}" for name, lists in needed.items()]
        return [*several, *([f"{LABELS}={given[LABELS] or labelled[0]}"] if labelled else [])]

    def _settings(self, row: Row, request: Request) -> Iterator[str]:
        """Assignments of a row's own settings; a multiple is of the value that the setting would have.

        On another image set, rows that leave a varied setting at its published default say so: there the default may be another.
        """
        values: dict[str, Any] = {}
        if self.elsewhere and self.table.varied:
            published = settings_given(replace(request, images=f"{self.table.images}:", recipe="", assignments=()))
            values = {name: published[name] for name in self.table.varied}
        given = settings_given(request) if row.times else {}
        values |= row.settings | {name: given[name] * factor for name, factor in row.times.items()}
        return (f"{name}={json.dumps(value)}" for name, value in values.items())

    def check(self) -> None:
        """Refuse a table without rows to run, a pattern that fits no row, and settings of `--set` that rows are about."""
        if not self.chosen:
            raise WrongInput(f"{self.table.id} has no row to run here: {self.table.note}")
        for pattern, text in self.parted:
            chosen(self.table, [pattern] if pattern else [], "--set")
            settings_given(Request(BASE_NETWORK, self.images, assignments=(text,)))  # a wrong value is a mistake of the command
            (name,) = parse_assignments([text])
            if about := [row.label for row in self.table.rows if name in {**row.settings, **row.times}]:
                raise WrongInput(f"--set {name}: rows of {self.table.id} have values of their own for it, such as {about[0]!r}")


def parted(text: str) -> tuple[str, str]:
    """The pattern and the assignment of PATTERN:key=value; no pattern of key=value."""
    if found := PARTED.fullmatch(text):
        return (found[1] or "").strip(), found[2]
    name, equals, value = text.partition("=")
    pattern, _, name = name.rpartition(":")
    return pattern.strip(), f"{name}{equals}{value}"


def _lists_of(table: Table) -> dict[str, list[str]]:
    """The lists of the columns by the setting that names the scored lists; the server's list is scored by nobody here."""
    roles = {"seed": "images.scoring", "pseudo": "images.scoring", "seg": "images.validation", "classification": LABELS}
    found: dict[str, list[str]] = {}
    for column in (Column(name) for name in table.columns):
        if column.split and column.split != SERVER:
            found.setdefault(roles[column.quantity], []).append(column.split)
    return found
