"""What is looked at before anything runs: every image, mask and imported file, and the initial weights."""

from collections.abc import Iterator, Sequence

from imagesets.errors import WrongInput, refuse
from imagesets.image_set import ImageSet
from orchestrator.planning.launch import Prepared, refuse_damaged
from orchestrator.planning.plan import PlannedStage
from orchestrator.storage.store import digest


def check_images(prepared: Prepared) -> list[str]:
    """Read every image, mask and imported file of the run, once; what is suspicious about them, a sentence each.

    Raises WrongInput with the whole list of what is wrong.
    """
    known = prepared.planner.fingerprints.known
    known_as = "checked " + digest("".join(step.identity["images"] + step.identity["masks"] for step in prepared.steps).encode())
    if known_as not in known:
        warnings = refuse_damaged(prepared.images, [step.stage for step in prepared.steps], prepared.settings, decode=True)
        known[known_as] = "\n".join(warnings)
    check_imports(prepared.steps, prepared.images)
    return known[known_as].splitlines()


def check_imports(steps: Sequence[PlannedStage], images: ImageSet) -> None:
    """Read every imported file that a step has yet to take in; WrongInput with the whole list of what is wrong."""
    problems = []
    for step in steps:
        if step.stage.recipe.check and not step.cached:
            from orchestrator.engine.context import importing, resolve  # loads torch; without imports nothing gets here

            recipe = step.stage.recipe
            problems += resolve(recipe.check)(importing(recipe, step.stage.settings, images.classes, step.items))
    refuse(problems, "what is imported")


def weights_problems(runs: Sequence[Prepared], fetch: bool = True) -> list[str]:
    """What is wrong with the initial weights of the trainings to come.

    ImageNet weights that are not here are fetched; without `fetch` only files are looked at.
    """
    found = {pair for run in runs for step in run.steps if not step.cached for pair in _initial_weights(run, step)}
    wanted = {pair for pair in found if fetch or pair[1] != "imagenet"}
    if not wanted:
        return []
    import backbones  # loads torch
    from orchestrator.engine.job import resolve

    problems = []
    for architecture, weights in sorted(wanted):
        try:
            backbones.build(resolve(architecture), weights=weights, frozen_statistics=False)
        except WrongInput as error:
            problems.append(str(error))
    return problems


def _initial_weights(prepared: Prepared, step: PlannedStage) -> Iterator[tuple[str, str]]:
    """The architectures that a training begins with, and the weights of each."""
    table, settings = prepared.planner.declared, step.stage.settings
    for name, full in step.stage.owned.items():
        if step.stage.recipe.kind == "train" and full and table[full].weights_of and settings[name] != "none":
            prefix, dot, _ = name.rpartition(".")
            yield settings[f"{prefix}{dot}{table[full].weights_of}"], settings[name]
