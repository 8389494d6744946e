"""The figures of a comparison, in the style of a report's: dots per run, precision against recall, the way from seed to
segmentation, threshold curves, stage times.
"""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np

from orchestrator.pages.figures import COLOURS, STYLE, STYLES, blank, svg
from orchestrator.reading.comparison import Comparison, Entry, Line

MARKERS = "os^Dv"  # entries differ in more than their colour


def figures(comparison: Comparison) -> list[tuple[str, str]]:
    """Titles and <svg> elements of all figures that the comparison has something for."""
    made = [(f"mIoU of each run, {quantity}", _dots(quantity, lines)) for quantity, lines in comparison.lines.items()]
    made += [
        (f"Precision and recall, {quantity}", _precision_recall(quantity, lines)) for quantity, lines in comparison.lines.items()
    ]
    if len(comparison.lines) > 1:
        made.append(("From seed to segmentation", _way(comparison)))
    curves = [line for line in comparison.lines.get("seed", []) if "curve" in line.row.about]
    if curves:
        made.append(("mIoU of seeds over their threshold", _curves(curves)))
    return [*made, ("Wall time of the stages", _times(comparison.entries))]


@matplotlib.rc_context(STYLE)
def _dots(quantity: str, lines: Sequence[Line]) -> str:
    """One dot per run and a bar at the mean."""
    figure, axes = blank("", "mIoU in percent")
    for place, line in enumerate(lines):
        values = [100 * value for value in line.row.scores["miou"].by_seed.values()]
        spread = 0.12 * (np.arange(len(values)) - (len(values) - 1) / 2) / max(len(values) - 1, 1)
        axes.plot(place + spread, values, "o", color=_colour(place), markersize=4, alpha=0.8)
        axes.hlines(np.mean(values), place - 0.25, place + 0.25, color=_colour(place), linewidth=1.5)
    _name_places(axes, [line.entry.label for line in lines])
    return svg(figure, f"dots {quantity}")


@matplotlib.rc_context(STYLE)
def _precision_recall(quantity: str, lines: Sequence[Line]) -> str:
    figure, axes = blank("recall in percent", "precision in percent")
    for place, line in enumerate(lines):
        scores = line.row.scores
        if "precision" in scores and "recall" in scores:
            point = 100 * scores["recall"].mean, 100 * scores["precision"].mean
            axes.plot(*point, MARKERS[place % len(MARKERS)], color=_colour(place), label=line.entry.label)
    _legend(axes)
    return svg(figure, f"precision and recall {quantity}")


@matplotlib.rc_context(STYLE)
def _way(comparison: Comparison) -> str:
    """Mean mIoU of the last seed, pseudo mask and segmentation of each entry."""
    figure, axes = blank("", "mIoU in percent")
    names = list(comparison.lines)
    for place, entry in enumerate(comparison.entries):
        known = [(names.index(name), 100 * row.scores["miou"].mean) for name, row in entry.last.items()]
        style = {"marker": MARKERS[place % len(MARKERS)], "linestyle": STYLES[place % len(STYLES)]}
        axes.plot(*zip(*known, strict=True), color=_colour(place), label=entry.label, markersize=4, **style)
    axes.set_xticks(range(len(names)), names)
    axes.margins(x=0.15)
    _legend(axes)
    return svg(figure, "way")


@matplotlib.rc_context(STYLE)
def _curves(lines: Sequence[Line]) -> str:
    """The first run's curve of each entry, its fixed threshold marked."""
    figure, axes = blank("threshold (background score)", "mIoU in percent")
    for place, line in enumerate(lines):
        curve, fixed = line.row.about["curve"], line.row.about["protocol"]["threshold"]
        values = [float("nan") if value is None else 100 * value for value in curve["miou"]]
        axes.plot(curve["threshold"], values, STYLES[place % len(STYLES)], color=_colour(place), label=line.entry.label)
        at = int(np.argmin(np.abs(np.array(curve["threshold"]) - fixed)))
        axes.plot(fixed, values[at], "o", color=_colour(place), markersize=4)
    _legend(axes)
    return svg(figure, "curves")


@matplotlib.rc_context(STYLE)
def _times(entries: Sequence[Entry]) -> str:
    """Wall minutes of the first run's stages, trainings and the rest apart, as measured when each was made."""
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
    walls = {stage["stage"]: (stage["wall"] or 0) / 60 for stage in entry.group.first["stages"]}
    trained = sum(minutes for name, minutes in walls.items() if name.endswith(("-network", "-segmenter")))
    return {"training": trained, "per image": sum(walls.values()) - trained}


def _colour(place: int) -> str:
    return COLOURS[place % len(COLOURS)]


def _name_places(axes, names: Sequence[str]) -> None:
    axes.set_xticks(range(len(names)), names, rotation=20 if len(names) > 2 else 0, ha="right" if len(names) > 2 else "center")
    axes.margins(x=0.2)


def _legend(axes) -> None:
    axes.legend(ncols=2, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0, handlelength=1.6, columnspacing=1, fontsize=8)
