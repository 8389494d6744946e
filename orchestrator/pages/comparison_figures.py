"""The figures of a comparison, in the style of a report: a dot per run, one metric over another, scores from the first
quantity to the last, threshold curves, stage times.
"""

from collections.abc import Iterator, Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from imagesets.errors import WrongInput
from orchestrator.pages.figures import (
    COLOURS,
    SIZE,
    STYLE,
    blank,
    curves_title,
    file_of,
    grid,
    in_unit,
    legend,
    line_style,
    name_marks,
    name_places,
    svg,
)
from orchestrator.planning import scores
from orchestrator.planning.components import components
from orchestrator.planning.score_recipe import Metric, Plot
from orchestrator.reading.comparison import Comparison, Entry, Line
from orchestrator.reading.numbers import axis, scale
from orchestrator.reading.results import total
from orchestrator.reading.summary import Scored

MARKERS = "os^DvP*X<>ph"  # so that entries differ in more than colour
Style = tuple[str, str]  # marker and colour


def figures(comparison: Comparison) -> list[tuple[str, str]]:
    """Titles and <svg> elements of all figures that the comparison has data for."""
    made = [
        (f"{scores.main_metric(quantity).title} of each run, {quantity} on {split}", _dots((quantity, split), lines))
        for (quantity, split), lines in comparison.lines.items()
    ]
    for place, lines in comparison.lines.items():
        for x, y, plot in scores.plots(place[0]):
            if any(_has(line, plot) for line in lines):
                made.append((_title(x, y, place), _over(x, y, plot, place, lines, _styles(comparison))))
    alike = [place for place in comparison.lines if scores.main(place[0]) == scores.main(comparison.quantities[-1])]
    if len(alike) > 1:
        made.append(("From stage to stage", _way(comparison.entries, alike)))
    for place, lines in comparison.lines.items():
        if curves := [line for line in lines if "curve" in line.row.about]:
            made.append((f"{curves_title(place[0])}, {place[1]}", _curves(place, curves)))
    return [*made, ("Wall time of the stages", _times(comparison.entries))]


@matplotlib.rc_context(STYLE)
def _dots(place: Scored, lines: Sequence[Line]) -> str:
    """One dot per run and a bar at the mean, a line for each entry."""
    metric = scores.main_metric(place[0])
    figure, axes = blank(axis(metric), "")
    for number, line in enumerate(lines):
        values = in_unit(line.row.main.by_seed.values(), metric) if line.row.main else [float("nan")]
        spread = 0.12 * (np.arange(len(values)) - (len(values) - 1) / 2) / max(len(values) - 1, 1)
        axes.plot(values, number + spread, "o", color=_colour(number), markersize=4, alpha=0.8)
        axes.vlines(np.mean(values), number - 0.25, number + 0.25, color=_colour(number), linewidth=1.5)
    name_places(axes, [line.entry.label for line in lines])
    return svg(figure, f"dots {place}")


@matplotlib.rc_context(STYLE)
def plot_file(comparison: Comparison, name: str, ending: str) -> bytes:
    """The plot called `name` in a recipe, a panel for each quantity and list, as a file of type `ending` (svg, png).

    Raises WrongInput if there is no such plot, or no run has its scores.
    """
    panels = [
        (place, lines, found)
        for place, lines in comparison.lines.items()
        for found in scores.plots(place[0])
        if found[2].name == name and any(_has(line, found[2]) for line in lines)
    ]
    if not panels:
        known = ", ".join(scores.plot_names())
        raise WrongInput(f"--plot {name}: no run here has the scores of such a plot; there are {known}")
    figure = Figure((SIZE[0] * len(panels), SIZE[1] * 1.3), layout="constrained")
    for axes, (place, lines, (x, y, plot)) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        grid(axes, axis(x), axis(y))
        _points(axes, x, y, plot, lines, _styles(comparison))
        axes.set_title(f"{scores.quantities()[place[0]].many}, {place[1]}", fontsize=9)
    named = {label: mark for axes in figure.axes for mark, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    name_marks(figure, figure, list(named.values()), list(named), len(panels), loc="outside lower center")
    return file_of(figure, ending)


@matplotlib.rc_context(STYLE)
def _over(x: Metric, y: Metric, plot: Plot, place: Scored, lines: Sequence[Line], styles: Mapping[str, Style]) -> str:
    figure, axes = blank(axis(x), axis(y))
    _points(axes, x, y, plot, lines, styles)
    legend(axes)
    return svg(figure, f"{plot.y} over {plot.x} {place}")


def _points(axes, x: Metric, y: Metric, plot: Plot, lines: Sequence[Line], styles: Mapping[str, Style]) -> None:
    """A point per entry with its deviations over runs, and arrows from a method to the same with add-ons, in its colour."""
    shown = [line for line in lines if _has(line, plot)]
    means = [tuple(scale(of) * line.row.scores[name].mean for of, name in ((x, plot.x), (y, plot.y))) for line in shown]
    for line, mean in zip(shown, means, strict=True):
        across, up = (scale(of) * (line.row.scores[name].std or 0) for of, name in ((x, plot.x), (y, plot.y)))
        marker, colour = styles[line.entry.label]
        axes.errorbar(*mean, up, across, fmt=marker, color=colour, label=line.entry.label, elinewidth=0.8, markersize=4)
    for start, end in _steps(shown):
        arrow = {"arrowstyle": "->", "color": styles[shown[end].entry.label][1], "shrinkA": 4, "shrinkB": 4}
        axes.annotate("", means[end], means[start], arrowprops=arrow)


def _styles(comparison: Comparison) -> dict[str, Style]:
    """The marker of each entry by its label, and the colour that it shares with the same method with other add-ons."""
    entries = {line.entry.label: line.entry for lines in comparison.lines.values() for line in lines}
    methods = list(dict.fromkeys(_without_add_ons(entry)[0] for entry in entries.values()))
    return {
        label: (MARKERS[number % len(MARKERS)], _colour(methods.index(_without_add_ons(entry)[0])))
        for number, (label, entry) in enumerate(entries.items())
    }


def _steps(lines: Sequence[Line]) -> Iterator[tuple[int, int]]:
    """The places of each line without add-ons and of each with add-ons to the same components."""
    parts = [_without_add_ons(line.entry) for line in lines]
    for start, (method, plain) in enumerate(parts):
        for end, (other, also) in enumerate(parts):
            if method == other and also and not plain:
                yield start, end


def _without_add_ons(entry: Entry) -> tuple[tuple[str, ...], list[str]]:
    """The components and the segmenter of an entry; and its add-ons."""
    results = entry.group.first
    chain = components(results["method"], results["segmenter"])
    method = (*(part.recipe.name for part in chain), results["segmenter"])
    return method, [add_on.name for part in chain for add_on in part.add_ons]


def _has(line: Line, plot: Plot) -> bool:
    return plot.x in line.row.scores and plot.y in line.row.scores


def _title(x: Metric, y: Metric, place: Scored) -> str:
    return f"{y.title} over {x.title}, {place[0]} on {place[1]}"


@matplotlib.rc_context(STYLE)
def _way(entries: Sequence[Entry], places: Sequence[Scored]) -> str:
    """The mean of the common main metric of `places` for each entry, from the first quantity to the last."""
    metric = scores.main_metric(places[-1][0])
    figure, axes = blank("", axis(metric))
    for number, entry in enumerate(entries):
        means = [(place, row.main) for place, row in enumerate(map(entry.last.get, places)) if row and row.main]
        style = {"marker": MARKERS[number % len(MARKERS)], "markersize": 4, **line_style(number)}
        known = [(place, scale(metric) * spread.mean) for place, spread in means]
        axes.plot(*zip(*known, strict=True), label=entry.label, **style)
    axes.set_xticks(range(len(places)), ["\n".join(place) for place in places])
    axes.margins(x=0.15)
    legend(axes)
    return svg(figure, "way")


@matplotlib.rc_context(STYLE)
def _curves(place: Scored, lines: Sequence[Line]) -> str:
    """The curve of each entry's first run, with the threshold at which it was scored."""
    name, metric = scores.main(place[0]), scores.main_metric(place[0])
    figure, axes = blank("threshold (background score)", axis(metric))
    for number, line in enumerate(lines):
        curve, fixed = line.row.about["curve"], line.row.about["protocol"]["threshold"]
        values = in_unit(curve[name], metric)
        axes.plot(curve["threshold"], values, label=line.entry.label, **line_style(number))
        at = int(np.argmin(np.abs(np.array(curve["threshold"]) - fixed)))
        axes.plot(fixed, values[at], "o", color=_colour(number), markersize=4)
    legend(axes)
    return svg(figure, f"curves {place}")


@matplotlib.rc_context(STYLE)
def _times(entries: Sequence[Entry]) -> str:
    """Wall minutes of the first run's stages, for trainings and the rest, measured when each stage was made."""
    figure, axes = blank("minutes", "")
    places, minutes = range(len(entries)), [_minutes(entry) for entry in entries]
    trainings, others = zip(*(each or (0.0, 0.0) for each in minutes), strict=True)
    axes.barh(places, trainings, height=0.5, color=COLOURS[0], label="training")
    axes.barh(places, others, left=trainings, height=0.5, color=COLOURS[1], label="per image")
    named = zip(entries, minutes, strict=True)
    name_places(axes, [entry.label if known else f"{entry.label} (unknown)" for entry, known in named])
    legend(axes)
    return svg(figure, "times")


def _minutes(entry: Entry) -> tuple[float, float] | None:
    """The minutes of trainings and those of other stages; None if the time of a stage is unknown."""
    stages = entry.group.first["stages"]
    trainings = total(stage["wall"] for stage in stages if stage["kind"] == "train")
    others = total(stage["wall"] for stage in stages if stage["kind"] != "train")
    return None if trainings is None or others is None else (trainings / 60, others / 60)


def _colour(place: int) -> str:
    return COLOURS[place % len(COLOURS)]
