"""The tables of the terminal: a plan, and the scores of a run."""

import sys
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from orchestrator.planning.launch import Experiment, Prepared
from orchestrator.planning.plan import PlannedStage
from orchestrator.reading.summary import Group, Spread

PIPED_WIDTH = 200  # columns where output goes to a file or another program, which has no width of its own


def terminal() -> Console:
    """The console for everything that a command prints."""
    return Console(soft_wrap=True, highlight=False, width=None if sys.stdout.isatty() else PIPED_WIDTH)


def table(*columns: str, title: str = "", wrap: bool = True) -> Table:
    """An empty table with `columns`, those that start with '>' aligned right; without `wrap` no cell is broken into lines."""
    made = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for number, name in enumerate(columns):
        right = name.startswith(">")
        made.add_column(
            name.removeprefix(">"),
            justify="right" if right else "left",
            overflow="fold",
            no_wrap=not wrap or number == 0 or right,
        )
    return made


def result_table(results: dict[str, Any]) -> Table:
    """mIoU, precision and recall of every scored thing, in percent, with its split and threshold."""
    title = f"{results['method']} on {results['images']}, random seed {results['random_seed']}"
    made = table("", "of", "split", ">mIoU", ">precision", ">recall", "threshold", "oracle", title=title, wrap=False)
    for row in results["rows"]:
        scores = (_percent(row["metrics"][name]) for name in ("miou", "precision", "recall"))
        fixed, oracle = row["protocol"].get("threshold"), row.get("oracle")
        best = f"{100 * oracle['miou']:.1f} at {oracle['threshold']:.2f}" if oracle else ""
        made.add_row(
            row["quantity"], row["component"], row["split"], *scores, "" if fixed is None else f"{fixed:.2f} fixed", best
        )
    return made


def group_table(group: Group) -> Table:
    """The same over the runs of a group: mean ± standard deviation (of two or more), the range of mIoU, and how many runs."""
    about = group.first
    seeds = ", ".join(str(run["random_seed"]) for run in group.runs)
    title = f"{about['method']} on {about['images']}, random seeds {seeds}"
    made = table("", "of", "split", ">n", ">mIoU", ">min", ">max", ">precision", ">recall", "threshold", title=title, wrap=False)
    for row in group.rows():
        miou, fixed = row.scores["miou"], row.about["protocol"].get("threshold")
        made.add_row(
            *(row.about[name] for name in ("quantity", "component", "split")),
            *(str(miou.n), spread_percent(miou), _percent(miou.minimum), _percent(miou.maximum)),
            *(spread_percent(row.scores.get(name)) for name in ("precision", "recall")),
            "" if fixed is None else f"{fixed:.2f} fixed",
        )
    return made


def spread_percent(spread: Spread | None, signed: bool = False) -> str:
    """Mean ± standard deviation in percent; the mean alone of one value, a dash of none."""
    if spread is None:
        return "-"
    mean = f"{100 * spread.mean:{'+' if signed else ''}.1f}"
    return mean if spread.std is None else f"{mean} ± {100 * spread.std:.1f}"


def _percent(score: float | None) -> str:
    """A fraction in percent; a mean over no class (a precision where nothing was predicted) is undefined, not 0."""
    return "-" if score is None else f"{100 * score:.1f}"


def print_stages(console: Console, wanted: Experiment) -> None:
    """The stages of an experiment on built-in images that are not drawn yet."""
    made = table("stage", "over", "state", title=f"{wanted.request.method} on {wanted.request.images}")
    for stage in wanted.stages:
        made.add_row(stage.name, f"list {stage.list_name}", "will run: the images are not drawn yet")
    console.print(made)


def print_plan(console: Console, prepared: Prepared, steps: list[PlannedStage]) -> None:
    """Every stage with its state and the reason for it, and what the rest will take as far as that is known."""
    made = table("stage", "over", "state", ">seconds last time", title=f"{prepared.request.method} on {prepared.request.images}")
    for step in steps:
        unit = f"{len(prepared.images.classes)} classes" if step.stage.recipe.over == "classes" else f"{len(step.items)} images"
        state = f"cached ({step.key[:12]})" if step.cached else f"will run: {step.reason}"
        made.add_row(step.stage.name, unit, state, "unknown" if step.estimate is None else f"{step.estimate:.0f}")
    console.print(made)
    console.print(_summary(steps))


def _summary(steps: list[PlannedStage]) -> str:
    missing = [step for step in steps if not step.cached]
    if not missing:
        return f"all {len(steps)} stages cached; nothing to do"
    known = sum(step.estimate or 0 for step in missing)
    unknown = sum(step.estimate is None for step in missing)
    parts = [f"about {known:.0f} s"] * (unknown < len(missing)) + [f"{unknown} stages of unknown time"] * (unknown > 0)
    return f"{len(steps) - len(missing)} of {len(steps)} stages cached; the rest: {' and '.join(parts)}"
