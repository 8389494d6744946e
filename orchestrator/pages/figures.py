"""Figures of a report as inline SVG; text and axes have the page's colour, so they are legible on light and dark pages."""

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from textwrap import fill
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from orchestrator.planning import scores
from orchestrator.planning.score_recipe import Metric
from orchestrator.reading.numbers import scale
from orchestrator.reading.protocol import way
from orchestrator.reading.summary import Spread

# from Okabe and Ito's colours, which colour-blind people can distinguish: those with contrast on white and on black
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#8A8A8A")
STYLES = ("-", "--", ":", "-.")  # so that lines differ in more than colour
SIZE = (3.5, 2.5)  # inches, the width of a phone, so that text is not shrunk
LONG = 20  # characters of a label beside which there is no room for another
LINE, LINES = 0.19, 8  # inches of a line of labels, and the lines beside a small figure's axis
INK = "#010203"  # replaced by the page's text colour when the SVG is written
ABOVE: Any = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0, "handlelength": 1.6}  # a legend above the axes
STYLE: Any = {
    "svg.fonttype": "none",  # text stays text: it is small and sharp, and a search finds it
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "text.parse_math": False,  # a $ in a name is no formula
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK),
}


@matplotlib.rc_context(STYLE)
def threshold_curve(row: Mapping[str, Any], name: str) -> str:
    """The metrics of a row over the threshold, with the one at which it was scored."""
    curve, fixed = row["curve"], row["protocol"]["threshold"]
    figure, axes = blank("threshold (background score)", "percent")
    drawn = {name: metric for name, metric in scores.metrics([row["quantity"]]).items() if name in curve}
    for number, (score, metric) in enumerate(drawn.items()):
        axes.plot(curve["threshold"], in_unit(curve[score], metric), label=metric.title, **line_style(number))
    axes.axvline(fixed, color=INK, linewidth=0.8)
    axes.annotate(f"{way(row['protocol'])} {fixed:.2f}", (fixed, 0), (3, 3), textcoords="offset points", fontsize=8)
    axes.set_ylim(0, 100)
    axes.legend(ncols=3, columnspacing=1, **ABOVE)
    return svg(figure, name)


@matplotlib.rc_context(STYLE)
def losses(history: Sequence[Mapping[str, float]], name: str) -> str:
    """Mean losses of a training per epoch, one line per named loss; a loss may begin or end in the middle of a training."""
    figure, axes = blank("epoch", "mean loss")
    epochs = [epoch["epoch"] for epoch in history]
    for index, loss in enumerate(dict.fromkeys(name for epoch in history for name in epoch if name != "epoch")):
        axes.plot(
            epochs,
            [epoch.get(loss, float("nan")) for epoch in history],
            label=loss.replace("_", " "),
            marker="o" if sum(loss in epoch for epoch in history) < 10 else "",
            markersize=3,
            **line_style(index),
        )
    axes.set_ylim(bottom=0)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(loc="best", fontsize=8)
    return svg(figure, name)


def spread_line(axes: Any, number: int, label: str, points: Sequence[tuple[float, Spread]], metric: Metric) -> None:
    """Draw the `number`th line of a figure: the means of a metric at places of an axis, with their deviations over runs."""
    means = in_unit((spread.mean for _, spread in points), metric)
    deviations = in_unit((spread.std or 0 for _, spread in points), metric)
    style = {"marker": "o", "markersize": 4, "capsize": 2, **line_style(number)}
    axes.errorbar([where for where, _ in points], means, deviations, label=label, **style)


def line_style(number: int) -> dict[str, str]:
    """The colour and the dashes of the `number`th line of a figure."""
    return {"color": COLOURS[number % len(COLOURS)], "linestyle": STYLES[number % len(STYLES)]}


def curves_title(quantity: str) -> str:
    """The title of a figure of threshold curves: "mIoU of seeds over their threshold"."""
    return f"{scores.main_metric(quantity).title} of {scores.quantities()[quantity].many} over their threshold"


def legend(axes: Any) -> None:
    """Name the marks of a figure above it."""
    name_marks(axes, axes.figure, *axes.get_legend_handles_labels(), loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0)


def name_marks(owner: Any, figure: Figure, marks: Sequence[Any], labels: Sequence[str], panels: int = 1, **place: Any) -> None:
    """Draw a legend of the axes or the figure `owner`, which is as wide as `panels` small figures."""
    shown = [fill(label, 2 * LONG) for label in labels]
    columns = panels * (2 if max(map(len, labels), default=0) < LONG else 1)
    make_room(figure, sum(label.count("\n") + 1 for label in shown) / columns - 2)
    owner.legend(marks, shown, ncols=columns, handlelength=1.6, columnspacing=1, fontsize=8, **place)


def name_places(axes: Any, labels: Sequence[str]) -> None:
    """Name the places 0, 1, ... of the vertical axis, from top to bottom."""
    shown = [fill(label, LONG) for label in labels]
    make_room(axes.figure, sum(label.count("\n") + 1 for label in shown) - LINES)
    axes.set_yticks(range(len(shown)), shown, fontsize=8)
    axes.set_ylim(len(shown) - 0.5, -0.5)


def make_room(figure: Figure, lines: float) -> None:
    """Make a figure so high that it has room for this number of `lines` more than a small one."""
    figure.set_figheight(max(figure.get_figheight(), SIZE[1] + LINE * lines))


def scale_of(axes: Any, at: Sequence[float]) -> None:
    """Give the axis of these numbers a logarithmic scale if they are far apart."""
    if at and min(at) > 0 and max(at) >= 20 * min(at):
        axes.set_xscale("log")


def in_unit(values: Iterable[float | None], metric: Metric) -> list[float]:
    """Values of a metric in its unit; undefined values leave a gap."""
    return [float("nan") if value is None else scale(metric) * value for value in values]


def blank(x: str, y: str) -> tuple[Figure, Any]:
    """An empty figure and its axes, with these titles."""
    figure = Figure(SIZE, layout="constrained")
    axes = figure.subplots()
    grid(axes, x, y)
    return figure, axes


def grid(axes: Any, x: str, y: str) -> None:
    """Give axes their titles and a grid."""
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(color="#8A8A8A", alpha=0.3, linewidth=0.5)


def file_of(figure: Figure, ending: str) -> bytes:
    """The figure as a file of type `ending` (svg, png); equal figures are equal files."""
    file = io.BytesIO()
    figure.savefig(file, format=ending, dpi=200, metadata={"Date": None} if ending == "svg" else None)
    return file.getvalue()


def svg(figure: Figure, name: str) -> str:
    """The figure as an <svg> element; `name` keeps its ids apart from those of other figures on the page."""
    file = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(
            file, format="svg", transparent=True, metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
        )
    text = file.getvalue()
    text = re.sub(r' id="[a-z0-9.]+_\d+"', "", text)  # the same in every figure, and nothing refers to it
    return text[text.index("<svg") :].replace(INK, "currentColor")
