"""Checks before anything runs: every image, mask and imported file, and the initial weights."""

from collections.abc import Iterator, Sequence

from imagesets.errors import WrongInput, refuse
from imagesets.image_set import ImageSet
from orchestrator.planning.launch import Prepared, refuse_damaged
from orchestrator.planning.planned_stage import PlannedStage
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
    check_imports(prepared.steps, prepared.images)
    return known[known_as].splitlines()


def check_imports(steps: Sequence[PlannedStage], images: ImageSet) -> None:
    """Read every imported file that a planned stage has yet to take in; raises WrongInput with all problems."""
    problems = []
    for step in steps:
        checks = step.stage.recipe.check, *(add_on.check for add_on in step.stage.add_ons.values())
        if any(checks) and not step.cached:
            from orchestrator.engine.context import importing  # loads torch, which most commands do not need

            where = importing(step.stage.recipe, step.stage.settings, images.classes, step.items)
            problems += [problem for check in filter(None, checks) for problem in resolve(check)(where)]
    refuse(list(dict.fromkeys(problems)), "the files of other programs")  # several stages may read one folder


def weights_problems(runs: Sequence[Prepared], fetch: bool = True) -> list[str]:
    """Problems with the initial weights of trainings that will run.

    It downloads missing ImageNet weights; without `fetch` it looks at files alone.
    """
    found = {one for run in runs for step in run.steps if not step.cached for one in _initial_weights(run, step)}
    wanted = {one for one in found if fetch or one[-1] != "imagenet"}
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
