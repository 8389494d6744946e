"""An experiment on opened images: the plan of its stages, with what the store has of them.

Planning reads the store and the images, and writes nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imagesets.errors import WrongInput, refuse
from imagesets.image_set import ImageSet
from orchestrator.planning.experiment import Experiment, Request
from orchestrator.planning.images import open_images
from orchestrator.planning.nearest import nearest
from orchestrator.planning.plan import Planner
from orchestrator.planning.planned_stage import PlannedStage, ancestors
from orchestrator.planning.recipes import load_all
from orchestrator.planning.stage import Stage, narrowed
from orchestrator.storage.store import Store, as_part, digest


@dataclass(frozen=True)
class Prepared:
    """A planned experiment on opened images."""

    experiment: Experiment
    images: ImageSet
    planner: Planner
    steps: list[PlannedStage]

    @property
    def request(self) -> Request:
        """What was asked for."""
        return self.experiment.request

    @property
    def settings(self) -> Mapping[str, Any]:
        """All existing settings, also those that no stage reads."""
        return self.experiment.settings

    @property
    def group(self) -> str:
        """The common name of this run and its repeats: method, image set, a hash of the images and the settings in use.

        A score counts by its list, and by its settings where they are not the defaults: a new score renames no run.
        """
        lists = self.experiment.lists
        images = [self.planner.content(name, with_masks=False)["images"] for name in lists]
        stages = [(stage.name, stage.list_name) for stage in self.experiment.stages if not stage.scores]
        scored = [self.settings[f"images.{role}"] for role in ("scoring", "validation", "selection")]
        used = {name: value for name, value in self.experiment.used.items() if not self._default_of_a_score(name)}
        return name_in_store(self.request.method, self.images.name, (stages, scored, sorted(used.items()), images))

    def _default_of_a_score(self, name: str) -> bool:
        recipe = load_all()[name.partition(".")[0]]
        return recipe.kind == "score" and self.settings[name] == self.planner.declared[name].default

    @property
    def run(self) -> str:
        """The run's name: its group's and the random seed."""
        return f"{self.group}-{self.request.random_seed}"

    @property
    def folder(self) -> Path:
        """The folder of the run's results."""
        return self.request.store / "runs" / self.run

    @property
    def unscored(self) -> list[str]:
        """The lists that should be scored but have no masks."""
        lists = dict.fromkeys(stage.list_name for stage in self.experiment.stages if stage.scores and stage.recipe.truth)
        return [name for name in lists if not self.planner.has_masks(name)]


def open_images_of(wanted: Experiment, make: bool) -> ImageSet | None:
    """The image set of an experiment. Missing built-in images are made with `make`, else the result is None."""
    request = wanted.request
    return open_images(request.images, wanted.settings, request.store, make, request.exclude)


def prepare(wanted: Experiment, images: ImageSet) -> Prepared:
    """Plan an experiment; reads the store and the images, writes nothing."""
    return plan_with(planner(wanted, images), wanted)


def planner(wanted: Experiment, images: ImageSet) -> Planner:
    """The planner of an experiment, its repeats, and others on the same images."""
    return Planner(Store(wanted.request.store), images, wanted.declared)


def plan_with(planner: Planner, wanted: Experiment, run: str = "", until: str = "", only: str = "") -> Prepared:
    """Plan an experiment with a planner that other experiments share; `run` is its name among them.

    With `until` or `only`, only the stages that lead to that stage are planned: it goes over what the whole run reads of it, and
    they go over what these stages read of them.
    """
    stages = narrowed(wanted.stages, until, only)
    found = plan_part(planner, wanted, stages, run)
    if (last := until or only) and last not in {step.stage.name for step in found.steps}:
        lists = {stage.name: stage.list_name for stage in stages}
        raise WrongInput(f"{last} cannot be made: the list {lists[last]} has no masks")
    return found


def plan_part(planner: Planner, wanted: Experiment, stages: Sequence[Stage], run: str) -> Prepared:
    """Plan some stages of an experiment, which go over what the whole run reads of them."""
    names = {stage.name for stage in stages}
    try:
        whole = planner.placed(wanted.stages)
        steps = planner.plan([stage for stage in whole if stage.name in names], wanted.request.random_seed, run)
    except (WrongInput, OSError):
        refuse_damaged(planner.images, stages, wanted.settings, decode=False)  # names all missing files and links to nowhere
        raise
    return Prepared(wanted, planner.images, planner, steps)


def name_in_store(method: str, images: str, identity: object) -> str:
    """The name of a group of runs or of a sweep, fit for a folder: method, name of the image set, a hash of the rest."""
    return f"{method}-{as_part(images)[:40]}-{digest(repr(identity).encode())[:8]}"


def refuse_damaged(images: ImageSet, stages: Iterable[Stage], settings: Mapping[str, Any], decode: bool) -> list[str]:
    """What is suspicious about the lists that `stages` read; with `decode` every image is decoded in full.

    Raises WrongInput with all problems of the lists.
    """
    from imagesets.check import check  # this opens images; a plan of checked images does not get here

    trainings = [stage for stage in stages if stage.recipe.kind == "train"]
    # segmenters learn from masks
    labelled = {name for stage in trainings if load_all()[stage.component].kind != "segmenter" for name in stage.lists}
    read = {name for stage in stages for name in stage.lists}
    scored = {stage.list_name for stage in stages if stage.recipe.truth and images.has_masks(stage.list_name)}
    learnt = [settings["images.training"], settings["images.fitting"]]
    found = check(images, sorted(read), sorted(scored), learnt, settings["images.validation"][:1], labelled, decode)
    refuse(found.problems, images.name)
    return found.warnings


def select(steps: list[PlannedStage], only: str) -> list[PlannedStage]:
    """The stages that a launch runs: all planned stages, or one alone."""
    if not only:
        return steps
    named = {step.stage.name: step for step in steps}
    missing = [source.stage.name for source in named[only].inputs.values() if not source.cached]
    if missing:
        raise WrongInput(f"--only {only} needs {' and '.join(missing)} first; use --until {only} to make them too")
    return [named[only]]


def depending_on(steps: list[PlannedStage], name: str) -> list[PlannedStage]:
    """The stage called `name` and all stages that depend on it."""
    named = {step.stage.name: step for step in steps}
    if name not in named:
        raise WrongInput(f"this run has no stage {name!r}{nearest(name, named)}")
    return [step for step in steps if named[name].key in ancestors(step)]
