"""A sweep as one HTML page: how sensitive each score is to each setting, threshold curves, and the table of trials."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

from orchestrator.pages.figures import COLOURS, STYLE, blank, curves_title, in_unit, legend, scale_of, spread_line, svg
from orchestrator.pages.page import write
from orchestrator.planning import scores
from orchestrator.planning.score_recipe import Metric
from orchestrator.reading.numbers import axis
from orchestrator.reading.summary import Row
from orchestrator.sweeps.sweep_results import Findings, slices
from orchestrator.sweeps.sweep_table import sweep_columns, sweep_rows
from orchestrator.sweeps.trial import Trial, told


def write_page(found: Findings, path: Path) -> None:
    """Write the page of a sweep to `path`."""
    figures = [
        (f"{metric.title} over {name}", _sensitivity(name, points, metric))
        for name, points in slices(found).items()
        for metric in _mains(found)
    ]
    if curves := [(trial, row) for trial in found.trials if (row := trial.cut)]:
        figures.append((curves_title(curves[0][1].about["quantity"]), _curves(curves)))
    write(path, "sweep.html.j2", found=found, columns=sweep_columns(found), rows=sweep_rows(found), figures=figures)


def _mains(found: Findings) -> list[Metric]:
    """The main metrics of all scores, each once."""
    scored = dict.fromkeys(quantity for trial in found.trials for quantity, _ in trial.last)
    return list({scores.main(quantity): scores.main_metric(quantity) for quantity in scored}.values())


@matplotlib.rc_context(STYLE)
def _sensitivity(name: str, points: Sequence[tuple[Any, Trial]], metric: Metric) -> str:
    """A main metric with its deviation over one setting; the other settings are those of the best trial. A line per score."""
    figure, axes = blank(name, axis(metric))
    numeric = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value, _ in points)
    at = [value for value, _ in points] if numeric else list(range(len(points)))
    scored = dict.fromkeys(place for _, trial in points for place in trial.last if scores.main_metric(place[0]) == metric)
    for number, place in enumerate(scored):
        rows = [(where, trial.last.get(place)) for where, (_, trial) in zip(at, points, strict=True)]
        spread_line(axes, number, " ".join(place), [(where, row.main) for where, row in rows if row and row.main], metric)
    scale_of(axes, at if numeric else ())
    if not numeric:
        axes.set_xticks(at, [str(value) for value, _ in points])
    legend(axes)
    return svg(figure, f"sensitivity {name}")


@matplotlib.rc_context(STYLE)
def _curves(trials: Sequence[tuple[Trial, Row]]) -> str:
    """The curve of each trial's first run; the best trial is in colour."""
    quantity = trials[0][1].about["quantity"]
    metric = scores.main_metric(quantity)
    figure, axes = blank("threshold (background score)", axis(metric))
    for place, (trial, row) in reversed(list(enumerate(trials))):
        values = in_unit(row.about["curve"][scores.main(quantity)], metric)
        label = told(trial.values) if place == 0 else None
        style = {"color": COLOURS[0], "linewidth": 1.6} if place == 0 else {"color": COLOURS[-1], "linewidth": 0.7}
        axes.plot(row.about["curve"]["threshold"], values, label=label, **style)
    if trials[0][0].values:  # without varied settings there is one curve, which needs no name
        legend(axes)
    return svg(figure, "sweep curves")
