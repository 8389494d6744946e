"""Checks before anything runs: every image, mask and imported file, and the initial weights."""

from collections.abc import Iterator, Sequence

from imagesets.errors import WrongInput, refuse
from orchestrator.planning.launch import Prepared, refuse_damaged
from orchestrator.planning.plan import PlannedStage
from orchestrator.planning.references import resolve
from orchestrator.storage.store import digest


def check_images(prepared: Prepared) -> list[str]:
    """Read every image, mask and imported file of the run, unless that was done before; returns warnings.

    Raises WrongInput with all problems.
    """
    known = prepared.planner.fingerprints.known
    known_as = "checked " + digest("".join(step.identity["images"] + step.identity["masks"] for step in prepared.steps).encode())
    if known_as not in known:
        warnings = refuse_damaged(prepared.images, [step.stage for step in prepared.steps], prepared.settings, decode=True)
        known[known_as] = "\n".join(warnings)
    problems = []
    for step in prepared.steps:
        recipe = step.stage.recipe
        if recipe.check and not step.cached:
            from orchestrator.engine.context import importing  # loads torch, which most commands do not need

            problems += resolve(recipe.check)(importing(recipe, step.stage.settings, prepared.images.classes, step.items))
    refuse(problems, "the files of other programs")
    return known[known_as].splitlines()


def weights_problems(runs: Sequence[Prepared]) -> list[str]:
    """Problems with the initial weights of trainings that will run; downloads missing ImageNet weights."""
    wanted = {found for run in runs for step in run.steps if not step.cached for found in _initial_weights(run, step)}
    if not wanted:
        return []
    import backbones  # loads torch

    problems = []
    for setting, architecture, weights in sorted(wanted):
        try:
            backbones.build(resolve(architecture), weights=weights, frozen_statistics=False)
        except WrongInput as error:
            problems.append(f"{setting}={weights}: {error}")
    return problems


def _initial_weights(prepared: Prepared, step: PlannedStage) -> Iterator[tuple[str, str, str]]:
    """The setting of each architecture's weights that a training begins with, the architecture, and the weights."""
    table, settings = prepared.planner.declared, step.stage.settings
    for name, full in step.stage.owned.items():
        if step.stage.recipe.kind == "train" and full and table[full].weights_of and settings[name] != "none":
            prefix, dot, _ = name.rpartition(".")
            yield full, settings[f"{prefix}{dot}{table[full].weights_of}"], settings[name]
