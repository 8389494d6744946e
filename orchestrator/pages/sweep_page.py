"""A sweep as one HTML page: how sensitive each score is to each setting, threshold curves, and the table of trials."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

from orchestrator.pages.figures import COLOURS, STYLE, STYLES, blank, svg
from orchestrator.pages.page import QUANTITIES, template
from orchestrator.storage.store import write_atomically
from orchestrator.sweeps.sweep_results import Findings, Trial, slices
from orchestrator.sweeps.sweep_table import sweep_columns, sweep_rows


def write_page(found: Findings, path: Path) -> None:
    """Write the page of a sweep to `path`."""
    figures = [(f"Scores over {name}", _sensitivity(name, points)) for name, points in slices(found).items()]
    curves = [trial for trial in found.trials if "seed" in trial.last]
    if curves:
        figures.append(("mIoU of seeds over their threshold", _curves(curves)))
    page = template("sweep.html.j2").render(found=found, columns=sweep_columns(found), rows=sweep_rows(found), figures=figures)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, page.encode())


@matplotlib.rc_context(STYLE)
def _sensitivity(name: str, points: Sequence[tuple[Any, Trial]]) -> str:
    """Mean mIoU of each quantity with its deviation over one setting, the others as in the best trial."""
    figure, axes = blank(name, "mIoU in percent")
    numeric = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value, _ in points)
    places = [value for value, _ in points] if numeric else list(range(len(points)))
    for number, quantity in enumerate(QUANTITIES):
        known = [
            (place, trial.last[quantity].scores["miou"])
            for place, (_, trial) in zip(places, points, strict=True)
            if quantity in trial.last
        ]
        if known:
            means, deviations = [100 * spread.mean for _, spread in known], [100 * (spread.std or 0) for _, spread in known]
            style = {"color": COLOURS[number], "linestyle": STYLES[number]}
            axes.errorbar(
                [place for place, _ in known], means, deviations, marker="o", markersize=4, capsize=2, label=quantity, **style
            )
    if numeric and min(places) > 0 and max(places) >= 20 * min(places):
        axes.set_xscale("log")
    if not numeric:
        axes.set_xticks(places, [str(value) for value, _ in points])
    axes.legend(ncols=3, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0, handlelength=1.6)
    return svg(figure, f"sensitivity {name}")


@matplotlib.rc_context(STYLE)
def _curves(trials: Sequence[Trial]) -> str:
    """The first run's curve of each trial, the best trial in colour."""
    figure, axes = blank("threshold (background score)", "mIoU in percent")
    for trial in reversed(trials):
        curve = trial.last["seed"].about["curve"]
        values = [float("nan") if value is None else 100 * value for value in curve["miou"]]
        best = trial is trials[0]
        label = ", ".join(f"{name.rpartition('.')[2]} {value}" for name, value in trial.values.items()) if best else None
        axes.plot(
            curve["threshold"], values, color=COLOURS[0] if best else COLOURS[-1], linewidth=1.6 if best else 0.7, label=label
        )
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0, handlelength=1.6)
    return svg(figure, "sweep curves")
