"""Tables for the terminal: a plan, and the scores of a run."""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.segment import Segment
from rich.table import Table

from orchestrator.planning import scores
from orchestrator.planning.experiment import Experiment
from orchestrator.planning.planned_stage import PlannedStage
from orchestrator.planning.prepared import Prepared
from orchestrator.planning.score_recipe import Metric
from orchestrator.reading.numbers import heading, told, told_spread
from orchestrator.reading.protocol import way
from orchestrator.reading.results import subjects
from orchestrator.reading.summary import Group, Row

WIDEST = 10_000  # columns of a console on which every table has its natural width
NARROWEST = 5  # columns of a terminal into which long cells are wrapped
CONTROLS = dict.fromkeys({*range(32), *range(127, 160)} - {*map(ord, "\t\n")})  # escape sequences begin with one of these
PIPED_WIDTH = 400  # width if output goes to a file or another program, where a line should hold what belongs together


def terminal(stderr: bool = False) -> Console:
    """The console for all output of a command, or for its errors. Names such as [x] or :v: stand as they are."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else PIPED_WIDTH
    return _Inert(stderr=stderr, soft_wrap=True, highlight=False, markup=False, emoji=False, width=width)


class _Inert(Console):
    """Leaves out control characters of texts: names in other people's files must not command the terminal."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else text.translate(CONTROLS), style, control)


def warn(console: Console, warnings: Iterable[str]) -> None:
    """Print a line for each warning."""
    for warning in warnings:
        console.print(f"warning: {warning}")


def table(*columns: str, title: str = "", wrap: bool = True) -> Table:
    """An empty table with `columns`; titles that start with '>' are right-aligned; without `wrap` cells stay on one line."""
    made = _Whole(title=title or None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for number, name in enumerate(columns):
        right = name.startswith(">")
        made.add_column(
            name.removeprefix(">"),
            justify="right" if right else "left",
            overflow="fold",
            no_wrap=not wrap or number == 0 or right,
        )
    return made


class _Whole(Table):
    """A table that loses nothing in a terminal too narrow for it: its lines are longer, and the terminal wraps them."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for column in self.columns:
            longest = max(cell_len(str(cell)) for cell in (column.header, *column.cells))
            column.min_width = longest if column.no_wrap else max(column.min_width or 0, min(longest, NARROWEST))
        least = sum((column.min_width or 0) + 2 for column in self.columns)  # with the gaps between columns
        return super().__rich_console__(console, options.update(width=max(options.max_width, least)))


def fitting(columns: Sequence[str], rows: Sequence[Sequence[str]], optional: Sequence[str], room: int, title: str = "") -> Table:
    """A table at most `room` wide: it lacks as many `optional` columns as needed, the last first. Its caption names them."""
    kept = list(optional)
    while True:
        out = [name for name in optional if name not in kept]
        places = [place for place, name in enumerate(columns) if name not in out]
        made = table(*(columns[place] for place in places), title=title, wrap=False)
        for row in rows:
            made.add_row(*(row[place] for place in places))
        if not kept or Console(width=WIDEST).measure(made).maximum <= room:
            break
        kept.pop()
    if out:
        made.caption = f"not shown for want of room: {', '.join(name.removeprefix('>') for name in out)}"
        made.caption_justify = "left"
    return made


def result_table(results: dict[str, Any], room: int = PIPED_WIDTH) -> Table:
    """The metrics of every score, with list and threshold, in a table at most `room` wide if it can be."""
    title = f"{results['method']} on {results['images']}, random seed {results['random_seed']}"
    rows = results["rows"]
    metrics = scores.metrics((row["quantity"] for row in rows), "tables")
    heads = [f">{heading(metric)}" for metric in metrics.values()]
    body = [
        [
            *(row["quantity"], subject, row["split"]),
            *(told(row["metrics"][name], metric) if name in row["metrics"] else "" for name, metric in metrics.items()),
            *(threshold(row), oracle(row)),
        ]
        for row, subject in zip(rows, subjects(rows), strict=True)
    ]
    return fitting(["", "of", "split", *heads, "threshold", "oracle"], body, _optional(metrics), room, title)


def group_table(group: Group, room: int = PIPED_WIDTH) -> Table:
    """The same over the runs of a group: mean ± deviation, number of runs, range of the main metric."""
    about, rows = group.first, group.rows()
    seeds = ", ".join(str(run["random_seed"]) for run in group.runs)
    title = f"{about['method']} on {about['images']}, random seeds {seeds}"
    metrics = scores.metrics((row.about["quantity"] for row in rows), "tables")
    columns = ["", "of", "split", ">runs", *(f">{heading(metric)}" for metric in metrics.values()), ">min", ">max", "threshold"]
    body = [_group_row(row, subject, metrics) for row, subject in zip(rows, subjects([row.about for row in rows]), strict=True)]
    return fitting(columns, body, _optional(metrics), room, title)


def _group_row(row: Row, subject: str, metrics: Mapping[str, Metric]) -> list[str]:
    main, metric = row.main, scores.main_metric(row.about["quantity"])
    return [
        *(row.about["quantity"], subject, row.about["split"], str(main.n if main else 0)),
        *(told_spread(row.scores.get(name), own) if name in row.about["metrics"] else "" for name, own in metrics.items()),
        *((told(main.minimum, metric), told(main.maximum, metric)) if main else ("", "")),
        threshold(*row.runs.values()),
    ]


def _optional(metrics: Mapping[str, Metric]) -> list[str]:
    """The columns of metrics that a narrow terminal may lack: all but those of main metrics."""
    mains = {quantity.main for quantity in scores.quantities().values()}
    return [f">{heading(metric)}" for name, metric in metrics.items() if name not in mains]


def threshold(*rows: Mapping[str, Any]) -> str:
    """The threshold of a row's maps, if it is a score of maps, and how it was found; the range over the rows of several runs."""
    found = sorted({f"{row['protocol']['threshold']:.2f}" for row in rows if "threshold" in row["protocol"]})
    return f"{' to '.join(dict.fromkeys([found[0], found[-1]]))} {way(rows[0]['protocol'])}" if found else ""


def oracle(row: Mapping[str, Any]) -> str:
    """The value of a row's main metric at the best threshold on the list on which thresholds are chosen."""
    if "oracle" not in row:
        return ""
    name, best = scores.main(row["quantity"]), row["oracle"]
    where = "" if best["chosen_on"] == row["split"] else f", chosen on {best['chosen_on']}"
    return f"{told(best[name], scores.main_metric(row['quantity']))} at {best['threshold']:.2f}{where}"


def print_stages(console: Console, wanted: Experiment) -> None:
    """The stages of an experiment on built-in images that are not drawn yet."""
    made = table("stage", "over", "state", title=f"{wanted.request.method} on {wanted.request.images}")
    for stage in wanted.stages:
        made.add_row(stage.name, f"list {stage.list_name}", "will run: the images are not drawn yet")
    console.print(made)


def print_plan(console: Console, prepared: Prepared, steps: list[PlannedStage]) -> None:
    """Print every stage with its state and the reason, and what the missing ones will take if earlier results tell."""
    columns = ("stage", "over", "state", ">CPU", "estimated from an earlier result of")
    made = table(*columns, title=f"{prepared.request.method} on {prepared.request.images}")
    for step in steps:
        unit = f"{len(prepared.images.classes)} classes" if step.stage.recipe.over == "classes" else f"{len(step.items)} images"
        state = f"cached ({step.result[:12]})" if step.cached else f"will run: {step.reason}"
        expected = (duration(step.estimate.cpu), step.estimate.source) if step.estimate else ("unknown", "")
        made.add_row(step.stage.name, unit, state, *(("", "") if step.cached else expected))
    console.print(made)
    console.print(_summary(steps))


def _summary(steps: list[PlannedStage]) -> str:
    missing = [step for step in steps if not step.cached]
    if not missing:
        return f"all {len(steps)} stages cached; nothing to do"
    known = [step.estimate for step in missing if step.estimate]
    unknown = [step.stage.name for step in missing if not step.estimate]
    made = f"{len(steps) - len(missing)} of {len(steps)} stages cached; the rest: "
    if not known:
        return f"{made}{len(unknown)} stages of unknown time"
    cpu, wall = duration(sum(each.cpu for each in known)), duration(sum(each.wall for each in known))
    without = f" without {', '.join(unknown)}, whose time is unknown" if unknown else ""
    return f"{made}about {cpu} of CPU{without}; {wall} by the clock, one stage after the other, with the workers of then"


def duration(seconds: float) -> str:
    """Seconds in a unit that fits: 0.4 s, 85 s, 12 min, 3.4 h, 56 h."""
    for limit, size, unit in ((120, 1, "s"), (7200, 60, "min")):
        if seconds < limit:
            return f"{_short(seconds / size)} {unit}"
    return f"{_short(seconds / 3600)} h"


def _short(value: float) -> str:
    return f"{value:.1f}" if value < 10 else f"{value:.0f}"
