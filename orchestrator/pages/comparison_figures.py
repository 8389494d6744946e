"""The figures of a comparison, in the style of a report: a dot per run, one metric over another, scores from the first
quantity to the last, threshold curves, stage times.
"""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np

from orchestrator.pages.figures import COLOURS, STYLE, STYLES, blank, in_unit, svg
from orchestrator.planning import scores
from orchestrator.planning.score_recipe import Metric, Plot
from orchestrator.reading.comparison import Comparison, Entry, Line
from orchestrator.reading.numbers import axis, scale
from orchestrator.reading.summary import Scored

MARKERS = "os^Dv"  # so that entries differ in more than colour


def figures(comparison: Comparison) -> list[tuple[str, str]]:
    """Titles and <svg> elements of all figures that the comparison has data for."""
    made = [
        (f"{scores.main_metric(quantity).title} of each run, {quantity} on {split}", _dots((quantity, split), lines))
        for (quantity, split), lines in comparison.lines.items()
    ]
    for place, lines in comparison.lines.items():
        for x, y, plot in scores.plots(place[0]):
            title = f"{y.title} over {x.title}, {place[0]} on {place[1]}"
            made.append((title[:1].upper() + title[1:], _over(x, y, plot, place, lines)))
    alike = [place for place in comparison.lines if scores.main(place[0]) == scores.main(comparison.quantities[-1])]
    if len(alike) > 1:
        made.append(("From stage to stage", _way(comparison.entries, alike)))
    for place, lines in comparison.lines.items():
        if curves := [line for line in lines if "curve" in line.row.about]:
            title = (
                f"{scores.main_metric(place[0]).title} of {scores.quantities()[place[0]].many} over their threshold, {place[1]}"
            )
            made.append((title, _curves(place, curves)))
    return [*made, ("Wall time of the stages", _times(comparison.entries))]


@matplotlib.rc_context(STYLE)
def _dots(place: Scored, lines: Sequence[Line]) -> str:
    """One dot per run and a bar at the mean."""
    metric = scores.main_metric(place[0])
    figure, axes = blank("", axis(metric))
    for number, line in enumerate(lines):
        values = in_unit(line.row.main.by_seed.values(), metric) if line.row.main else [float("nan")]
        spread = 0.12 * (np.arange(len(values)) - (len(values) - 1) / 2) / max(len(values) - 1, 1)
        axes.plot(number + spread, values, "o", color=_colour(number), markersize=4, alpha=0.8)
        axes.hlines(np.mean(values), number - 0.25, number + 0.25, color=_colour(number), linewidth=1.5)
    _name_places(axes, [line.entry.label for line in lines])
    return svg(figure, f"dots {place}")


@matplotlib.rc_context(STYLE)
def _over(x: Metric, y: Metric, plot: Plot, place: Scored, lines: Sequence[Line]) -> str:
    figure, axes = blank(axis(x), axis(y))
    for number, line in enumerate(lines):
        found = line.row.scores
        if plot.x in found and plot.y in found:
            point = scale(x) * found[plot.x].mean, scale(y) * found[plot.y].mean
            axes.plot(*point, MARKERS[number % len(MARKERS)], color=_colour(number), label=line.entry.label)
    _legend(axes)
    return svg(figure, f"{plot.y} over {plot.x} {place}")


@matplotlib.rc_context(STYLE)
def _way(entries: Sequence[Entry], places: Sequence[Scored]) -> str:
    """The mean of the common main metric of `places` for each entry, from the first quantity to the last."""
    metric = scores.main_metric(places[-1][0])
    figure, axes = blank("", axis(metric))
    for number, entry in enumerate(entries):
        means = [(place, row.main) for place, row in enumerate(map(entry.last.get, places)) if row and row.main]
        style = {"marker": MARKERS[number % len(MARKERS)], "linestyle": STYLES[number % len(STYLES)]}
        known = [(place, scale(metric) * spread.mean) for place, spread in means]
        axes.plot(*zip(*known, strict=True), color=_colour(number), label=entry.label, markersize=4, **style)
    axes.set_xticks(range(len(places)), ["\n".join(place) for place in places])
    axes.margins(x=0.15)
    _legend(axes)
    return svg(figure, "way")


@matplotlib.rc_context(STYLE)
def _curves(place: Scored, lines: Sequence[Line]) -> str:
    """The curve of each entry's first run, with its fixed threshold."""
    name, metric = scores.main(place[0]), scores.main_metric(place[0])
    figure, axes = blank("threshold (background score)", axis(metric))
    for number, line in enumerate(lines):
        curve, fixed = line.row.about["curve"], line.row.about["protocol"]["threshold"]
        values = in_unit(curve[name], metric)
        axes.plot(curve["threshold"], values, STYLES[number % len(STYLES)], color=_colour(number), label=line.entry.label)
        at = int(np.argmin(np.abs(np.array(curve["threshold"]) - fixed)))
        axes.plot(fixed, values[at], "o", color=_colour(number), markersize=4)
    _legend(axes)
    return svg(figure, f"curves {place}")


@matplotlib.rc_context(STYLE)
def _times(entries: Sequence[Entry]) -> str:
    """Wall minutes of the first run's stages, for trainings and the rest, measured when each stage was made."""
    figure, axes = blank("minutes", "")
    for place, entry in enumerate(entries):
        begun = 0.0
        for number, (kind, minutes) in enumerate(_minutes(entry).items()):
            label = kind if place == 0 else None
            axes.barh(place, minutes, left=begun, height=0.5, color=COLOURS[number], label=label)
            begun += minutes
    axes.set_yticks(range(len(entries)), [entry.label for entry in entries])
    axes.invert_yaxis()
    _legend(axes)
    return svg(figure, "times")


def _minutes(entry: Entry) -> Mapping[str, float]:
    minutes = [(stage["kind"] == "train", (stage["wall"] or 0) / 60) for stage in entry.group.first["stages"]]
    return {
        "training": sum(time for trains, time in minutes if trains),
        "per image": sum(time for trains, time in minutes if not trains),
    }


def _colour(place: int) -> str:
    return COLOURS[place % len(COLOURS)]


def _name_places(axes, names: Sequence[str]) -> None:
    axes.set_xticks(range(len(names)), names, rotation=20 if len(names) > 2 else 0, ha="right" if len(names) > 2 else "center")
    axes.margins(x=0.2)


def _legend(axes) -> None:
    axes.legend(ncols=2, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0, handlelength=1.6, columnspacing=1, fontsize=8)
