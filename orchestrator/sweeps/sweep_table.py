"""The trials of a sweep as a table, for the terminal and for its page."""

from rich.table import Table

from orchestrator.reading.comparison import QUANTITIES
from orchestrator.reading.tables import spread_percent, table
from orchestrator.sweeps.sweep_results import Findings, best_threshold, has_thresholds


def sweep_columns(found: Findings) -> list[str]:
    """The settings that vary, then what is scored."""
    quantities = [name for name in QUANTITIES if any(name in trial.last for trial in found.trials)]
    return [*found.names, *quantities, *(["best threshold (oracle)"] if has_thresholds(found) else [])]


def sweep_rows(found: Findings) -> list[list[str]]:
    """One row of `sweep_columns` per trial, mIoU in percent, the best first; last those that were stopped early."""
    made = []
    for trial in found.trials:
        cells = [str(trial.values[name]) for name in found.names]
        shown = [name for name in QUANTITIES if any(name in other.last for other in found.trials)]
        cells += [spread_percent(trial.last[name].scores.get("miou") if name in trial.last else None) for name in shown]
        if has_thresholds(found):
            best = best_threshold(trial)
            cells.append(f"{100 * best[1]:.1f} at {best[0]:.2f}" if best else "-")
        made.append(cells)
    for stopped in found.stopped:
        values = [str(stopped["values"][name]) for name in found.names]
        made.append([*values, "stopped early", *["-"] * (len(sweep_columns(found)) - len(values) - 1)])
    return made


def sweep_table(found: Findings) -> Table:
    """The trials of a sweep."""
    seeds = ", ".join(map(str, found.record["random_seeds"]))
    title = f"{found.record['method']} on {found.record['images']}, random seeds {seeds}: mIoU, ordered by {found.metric}"
    made = table(*(f">{name}" for name in sweep_columns(found)), title=title, wrap=False)
    for cells in sweep_rows(found):
        made.add_row(*cells)
    return made
