"""What is looked at before anything runs: every image, mask and imported file."""

from collections.abc import Sequence

from imagesets.errors import refuse
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
            from orchestrator.engine.importing import import_problems  # loads torch; without imports nothing gets here

            problems += import_problems(step.stage.recipe, step.stage.settings, images.classes, step.items)
    refuse(problems, "what is imported")
