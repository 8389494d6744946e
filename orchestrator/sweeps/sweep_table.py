"""The trials of a sweep as a table, for the terminal and for its page."""

from rich.table import Table

from orchestrator.planning import scores
from orchestrator.reading.numbers import NONE, heading, told, told_spread
from orchestrator.reading.summary import Scored, places
from orchestrator.reading.tables import table
from orchestrator.sweeps.sweep_results import Findings
from orchestrator.sweeps.trial import Trial, best_threshold, metric_of, parts


def sweep_columns(found: Findings) -> list[str]:
    """The varied settings, then the main metrics, and the metric that orders the trials if it is none of them."""
    heads = [f"{quantity} {heading(scores.main_metric(quantity))}, {split}" for quantity, split in _scored(found)]
    return [*found.names, *heads, *_other(found), *(["best threshold (oracle)"] if found.has_thresholds else [])]


def sweep_rows(found: Findings) -> list[list[str]]:
    """One row of `sweep_columns` per trial, the best first, the stopped ones last."""
    made = []
    for trial in found.trials:
        cells = [str(trial.values[name]) for name in found.names]
        for place in _scored(found):
            main = trial.last[place].main if place in trial.last else None
            cells.append(told_spread(main, scores.main_metric(place[0])))
        cells += [told_spread(trial.score(name), metric_of(name)) for name in _other(found)]
        if found.has_thresholds:
            cells.append(_best_threshold(trial))
        made.append(cells)
    for stopped in found.stopped:
        values = [str(stopped["values"][name]) for name in found.names]
        made.append([*values, "stopped early", *[NONE] * (len(sweep_columns(found)) - len(values) - 1)])
    return made


def _scored(found: Findings) -> list[Scored]:
    return places(trial.last for trial in found.trials)


def _other(found: Findings) -> list[str]:
    """The score that orders the trials, if it is not of a main metric, which has a column anyway."""
    quantity, metric, _ = parts(found.metric)
    return [] if metric == scores.main(quantity) else [found.metric]


def _best_threshold(trial: Trial) -> str:
    if (row := trial.cut) and (best := best_threshold(row)):
        return f"{told(best[1], scores.main_metric(row.about['quantity']))} at {best[0]:.2f}"
    return NONE


def sweep_table(found: Findings) -> Table:
    """The table of a sweep's trials."""
    seeds = ", ".join(map(str, found.record["random_seeds"]))
    title = f"{found.record['method']} on {found.record['images']}, random seeds {seeds}, ordered by {found.metric}"
    made = table(*(f">{name}" for name in sweep_columns(found)), title=title, wrap=False)
    for cells in sweep_rows(found):
        made.add_row(*cells)
    return made
