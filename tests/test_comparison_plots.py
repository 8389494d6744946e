"""Plots of a comparison: points with deviations, arrows from a method to the same with add-ons, files and their refusals."""

import re
from collections.abc import Sequence
from xml.etree import ElementTree

import pytest
from matplotlib.figure import Figure

from imagesets.errors import WrongInput
from orchestrator.pages.comparison_figures import _points as points
from orchestrator.pages.comparison_figures import _styles as styles
from orchestrator.pages.comparison_figures import figures, plot_file
from orchestrator.pages.figures import blank, legend
from orchestrator.planning import scores
from orchestrator.reading.comparison import Comparison, Entry, Line
from orchestrator.reading.summary import Group, Row, Spread


def line(label: str, method: str, quantity: str, f: Sequence[float], miou: Sequence[float], segmenter: str = "deeplabv2") -> Line:
    """A line of a comparison with these scores of some runs."""
    found = {name: Spread(dict(enumerate(values))) for name, values in (("f", f), ("miou", miou))}
    group = Group(label, [{"method": method, "segmenter": segmenter, "stages": []}], {})
    return Line(Entry(label, group, {}), Row({"quantity": quantity}, {}, found, {}), {}, {})


LINES = [
    line("cam", "cam", "seed", [0.2, 0.22], [0.4, 0.42]),
    line("cam+isl", "isl+irn", "seed", [0.3], [0.5]),  # the same method in other words
    line("recam+isl", "recam+isl", "seed", [0.35], [0.55]),
    line("recam", "recam", "seed", [0.25, 0.25], [0.44, 0.46]),
    line("cam+isl+fsl", "cam+isl+fsl", "seed", [0.4], [0.45]),
    line("recam elsewhere", "recam", "seed", [0.1], [0.2], segmenter="pspnet"),
]
SEGMENTED = [line("cam", "cam", "seg", [0.5], [0.6])]


def comparison(**lines: Sequence[Line]) -> Comparison:
    entries = [found.entry for found in next(iter(lines.values()))]
    return Comparison(entries, {(quantity, "train"): found for quantity, found in lines.items()}, [])


def drawn(lines: Sequence[Line]):
    axes = Figure().subplots()
    points(axes, *scores.plots("seed")[0], lines, styles(comparison(seed=lines)))
    return axes


def test_each_entry_is_a_point_with_its_deviation_over_runs() -> None:
    axes = drawn(LINES)
    first, second = axes.containers[:2]
    assert (first.get_label(), *first.lines[0].get_xydata()[0]) == ("cam", pytest.approx(21), pytest.approx(41))
    across, up = (bars.get_segments()[0] for bars in first.lines[2])
    for ends in (across[:, 0], up[:, 1]):
        assert ends[1] - ends[0] == pytest.approx(2 * 100 * 0.02 / 2**0.5)
    alone, _ = (bars.get_segments()[0] for bars in second.lines[2])
    assert alone[0].tolist() == alone[1].tolist()  # one run has no deviation


def test_arrows_lead_from_a_method_to_the_same_with_add_ons_and_to_nothing_else() -> None:
    axes = drawn(LINES)
    names = {tuple(container.lines[0].get_xydata()[0]): container.get_label() for container in axes.containers}
    arrows = {(names[tuple(text.xyann)], names[tuple(text.xy)]) for text in axes.texts}
    assert arrows == {("cam", "cam+isl"), ("cam", "cam+isl+fsl"), ("recam", "recam+isl")}


def test_a_method_and_the_same_with_add_ons_have_one_colour() -> None:
    colours = [container.lines[0].get_color() for container in drawn(LINES).containers]
    assert colours[0] == colours[1] == colours[4] and colours[2] == colours[3] and len(set(colours)) == 3


def test_a_file_has_a_panel_for_each_quantity_and_names_every_entry() -> None:
    picture = plot_file(comparison(seed=LINES, seg=SEGMENTED), "jf", "svg").decode()
    text = " ".join(ElementTree.fromstring(picture).itertext())
    assert all(part in text for part in ("seeds, train", "segmentations, train", "mIoU in percent", "F in percent"))
    assert all(entry.entry.label in text for entry in LINES)
    assert plot_file(comparison(seed=LINES), "jf", "png").startswith(b"\x89PNG")


def test_the_page_has_the_plot_too() -> None:
    titles = [title for title, _ in figures(comparison(seed=LINES))]
    assert "mIoU over F, seed on train" in titles


@pytest.mark.parametrize(
    "labels", [["seed train", "pseudo train", "seg val"], [f"cam+irn irn.beta={n} cam.lr=0.01" for n in range(9)]]
)
def test_every_name_of_a_legend_is_inside_the_figure(labels: Sequence[str]) -> None:
    figure, axes = blank("x", "y")
    for label in labels:
        axes.plot([0, 1], label=label)
    legend(axes)
    figure.draw_without_rendering()
    box, whole = axes.get_legend().get_window_extent(), figure.bbox
    assert box.x0 >= 0 and box.x1 <= whole.x1 and box.y1 <= whole.y1 and axes.bbox.height > whole.height / 5


@pytest.mark.filterwarnings("error")
def test_many_entries_with_long_names_leave_room_for_the_figures() -> None:
    named = [f"recurseed+epm+irn recurseed.certain_foreground=0.{n} recurseed.certain_background=0.1" for n in range(9)]
    found = comparison(seed=[line(name, "recurseed+epm+irn", "seed", [0.2 + n / 99], [0.4]) for n, name in enumerate(named)])
    assert len(figures(found)) > 2 and plot_file(found, "jf", "svg")
    markers = {marker for marker, _ in styles(found).values()}
    assert len(markers) == len(named)


@pytest.mark.parametrize("name", ["fj", "jf"])
def test_a_plot_that_does_not_exist_or_has_no_scores_is_refused(name: str) -> None:
    lines = [line("cam", "cam", "seed", [], [])] if name == "jf" else LINES
    empty = [Line(one.entry, Row(one.row.about, {}, {}, {}), {}, {}) for one in lines] if name == "jf" else lines
    with pytest.raises(WrongInput, match=re.escape(f"--plot {name}: no run here has the scores of such a plot; there are jf")):
        plot_file(comparison(seed=empty), name, "svg")
