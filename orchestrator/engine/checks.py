"""Checks before anything runs: every image, mask and imported file, and the initial weights."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from imagesets.errors import WrongInput, refuse
from imagesets.image_set import ImageSet
from orchestrator.planning.planned_stage import PlannedStage
from orchestrator.planning.prepared import Prepared, refuse_damaged
from orchestrator.planning.references import resolve
from orchestrator.storage.store import digest

Weights = tuple[str, str, str]  # the setting of initial weights, the architecture, and the weights


def check_images(prepared: Prepared) -> list[str]:
    """Read every image, mask and imported file of the run, unless that was done before; returns warnings.

    Raises WrongInput with all problems.
    """
    known = prepared.planner.fingerprints.known
    known_as = "checked " + digest("".join(step.identity["images"] + step.identity["masks"] for step in prepared.steps).encode())
    if known_as not in known:
        warnings = refuse_damaged(prepared.images, [step.stage for step in prepared.steps], prepared.settings, decode=True)
        known[known_as] = "\n".join(warnings)
    check_imports(prepared.steps, prepared.images)
    return known[known_as].splitlines()


def check_imports(steps: Sequence[PlannedStage], images: ImageSet) -> None:
    """Let every planned stage check its settings and the imported files that it reads; raises WrongInput with all problems."""
    problems = []
    for step in steps:
        checks = step.stage.recipe.check, *(add_on.check for add_on in step.stage.add_ons.values())
        if any(checks) and not step.cached:
            from orchestrator.engine.context import importing  # loads torch, which most commands do not need

            where = importing(step.stage.recipe, step.stage.settings, images.classes, step.items)
            problems += [problem for check in filter(None, checks) for problem in resolve(check)(where)]
    refuse(list(dict.fromkeys(problems)), "the settings and files of the run")  # several stages may read one folder


def weights_problems(runs: Sequence[Prepared], fetch: bool = True, known: dict[Weights, str] | None = None) -> list[str]:
    """Problems with the initial weights of trainings that will run.

    It downloads missing ImageNet weights; without `fetch` it looks at files alone. `known` keeps what was found for other calls.
    """
    found = {one for run in runs for step in run.steps if not step.cached for one in _initial_weights(run, step)}
    wanted = {one for one in found if fetch or one[-1] != "imagenet"}
    known = {} if known is None else known
    for one in sorted(wanted - known.keys()):
        known[one] = _weights_problem(*one)
    return [known[one] for one in sorted(wanted) if known[one]]


def _weights_problem(setting: str, architecture: str, weights: str) -> str:
    """Why an architecture cannot have these weights; "" if it can."""
    import backbones  # loads torch
    from backbones.weights import refuse_unusable

    try:
        backbone = backbones.build(resolve(architecture), weights=weights, frozen_statistics=False)
        if weights != "imagenet":
            refuse_unusable(backbone, Path(weights))
    except WrongInput as error:
        return f"{setting}={weights}: {error}"
    return ""


def _initial_weights(prepared: Prepared, step: PlannedStage) -> Iterator[Weights]:
    """The setting of each architecture's weights that a training begins with, the architecture, and the weights."""
    table, settings = prepared.planner.declared, step.stage.settings
    for name, full in step.stage.owned.items():
        if step.stage.recipe.kind == "train" and full and table[full].weights_of and settings[name] != "none":
            prefix, dot, _ = name.rpartition(".")
            yield full, settings[f"{prefix}{dot}{table[full].weights_of}"], settings[name]
