"""The columns of a table: what each is called, what was published in it, and what a group of runs has there.

A column is a score by its name (seed.miou/train), or one of these:

- seg.iou/val: the score of each class, whose mean is the main metric;
- seed.by_labels.one.miou/train: a value inside a result, here the mIoU of the images with one class;
- seed.pixels.tp/train: pixels by kind of error, in shares of TP + FN + FP(background), as ReCAM's Table S3 has them;
- cost.units and cost.cpu: units of cost, and minutes of CPU of a whole run.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.planning import scores
from orchestrator.planning.score_recipe import Metric
from orchestrator.reading.numbers import NONE, form, heading, scale, told_spread
from orchestrator.reading.results import entry, total
from orchestrator.reading.summary import Group, Row, Spread, spread_of
from orchestrator.tables.table_recipe import Row as TableRow
from orchestrator.tables.table_recipe import Table

SERVER = "test"  # the list whose masks only the server of the challenge has
PIXELS = {"tp": "right class", "fp_object": "another class", "fn": "missed", "fp_background": "background taken for a class"}
IN_RESULT = {"by_labels.one.miou": "mIoU, images with one class", "by_labels.several.miou": "mIoU, images with several"}
COST = {
    "cost.units": Metric(title="cost", unit="units", better="lower"),
    "cost.cpu": Metric(title="CPU", unit="min", better="lower"),
}


@dataclass(frozen=True)
class Published:
    """What a paper prints in one cell: a mean with its deviation, or words; `classes` are the values of classes, in percent."""

    mean: float | None = None
    std: float | None = None
    words: str = ""
    classes: Sequence[float | None] = ()


@dataclass(frozen=True)
class Column:
    """A column by its name, such as seed.miou/train."""

    name: str

    @property
    def quantity(self) -> str:
        """The quantity that is scored; "cost" for a cost."""
        return self.name.partition(".")[0]

    @property
    def path(self) -> str:
        """The metric, or the path of a value inside a result."""
        return self.name.partition(".")[2].partition("/")[0]

    @property
    def split(self) -> str:
        """The image list that is scored; "" for a cost."""
        return self.name.partition("/")[2]

    @property
    def by_class(self) -> bool:
        """Whether its values are lists with one value a class."""
        if self.quantity not in scores.quantities() or self.path in scores.metrics([self.quantity]):
            return False  # F1 of labels is a metric, and each class's F1 has the same name
        return self.path == scores.main_metric(self.quantity).per_class

    @property
    def metric(self) -> Metric:
        """Title and unit."""
        if self.name in COST:
            return COST[self.name]
        if self.path.startswith("pixels."):
            return Metric(title=PIXELS[self.path.removeprefix("pixels.")])
        if self.by_class:
            return Metric(title=scores.class_title(self.quantity))
        return scores.metrics([self.quantity]).get(self.path) or Metric(title=IN_RESULT.get(self.path, self.path))

    @property
    def title(self) -> str:
        """Quantity, metric and list: "seed mIoU, train"."""
        return heading(self.metric) if self.name in COST else f"{self.quantity} {heading(self.metric)}, {self.split}"

    def wanted(self, quantity: str, list_name: str) -> bool:
        """Whether a score of `quantity` on a list fills this column; for the server's, a segmenter is scored on our list."""
        return quantity == self.quantity and self.split in (list_name, SERVER)

    def measured(self, group: Group) -> Spread | None:
        """What the runs of a group have here, in the unit of results; None if they have nothing."""
        if self.name == "cost.cpu":
            return spread_of({run["random_seed"]: _minutes(run) for run in group.runs})
        last = group.last()
        if self.name == "cost.units":
            ends = [row for (quantity, _), row in last.items() if quantity != "seg"]
            return _inside(ends[-1], lambda result: result["cost"]["units"]) if ends else None
        row = last.get((self.quantity, self.split))
        if row is None:
            return None
        if self.path.startswith("pixels."):
            return _inside(row, lambda result: _share(result["errors"], self.path.removeprefix("pixels.")))
        return row.scores.get(self.path) or _inside(row, lambda result: entry(result, self.path))

    def classes(self, group: Group) -> Mapping[str, Spread]:
        """The scores of each class, by name."""
        row = group.last().get((self.quantity, self.split))
        return row.per_class if row else {}

    def published(self, table: Table, row: TableRow) -> Published:
        """What the paper prints for a row, in percent or in the unit."""
        factor = 100.0 if self.name in table.fractions else 1.0
        value = row.values.get(self.name)
        if isinstance(value, list):
            return Published(classes=value)
        if isinstance(value, Mapping):
            mean, std = value.get("mean", value.get("share")), value.get("std")
            return Published(mean * factor, None if std is None else std * factor)
        if value is not None:
            return Published(value * factor)
        gain = row.difference.get(self.name)
        words = f"{gain:+g} over {row.against}" if gain is not None else "diverged" if row.diverged else ""
        return Published(words=words if self.name in row.values else "")

    def told_measured(self, spread: Spread | None) -> str:
        """The text of a measured value."""
        return told_spread(spread, self.metric)

    def told_published(self, found: Published) -> str:
        """The text of a published value, with the digits of the unit."""
        if found.mean is None:
            return found.words or NONE
        digits = form(self.metric)
        return f"{found.mean:{digits}}" + (f" ± {found.std:{digits}}" if found.std is not None else "")

    def difference(self, spread: Spread | None, found: Published) -> float | None:
        """Ours minus the published value, in the unit of the table."""
        return None if spread is None or found.mean is None else scale(self.metric) * spread.mean - found.mean

    def told_difference(self, value: float | None) -> str:
        """The text of a difference."""
        return "" if value is None else f"{value:+{form(self.metric)}}"


def columns_of(table: Table) -> list[Column]:
    """The columns with one value a row."""
    return [column for column in map(Column, table.columns) if not column.by_class]


def class_columns_of(table: Table) -> list[Column]:
    """The columns with one value a class."""
    return [column for column in map(Column, table.columns) if column.by_class]


def _inside(row: Row, value: Callable[[Mapping[str, Any]], float | None]) -> Spread | None:
    return spread_of({seed: value(result) for seed, result in row.runs.items()})


def _share(errors: Mapping[str, float | None], kind: str) -> float | None:
    """Our shares are of all four kinds, the paper's of the three without objects taken for other objects."""
    shares = {name: value for name, value in errors.items() if value is not None}
    whole = sum(value for name, value in shares.items() if name != "fp_object")
    return shares[kind] / whole if whole else None


def _minutes(run: Mapping[str, Any]) -> float | None:
    spent = total(stage["cpu"] for stage in run["stages"])
    return None if spent is None else spent / 60
