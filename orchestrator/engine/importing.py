"""Stages that take in the files of another program."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from imagesets.item import Item
from orchestrator.engine.context import save_network, settings_of
from orchestrator.engine.job import Job, resolve
from orchestrator.engine.spent import Meter, Spent
from orchestrator.planning.recipe import StageRecipe
from training.stage import Context


def copy_network(job: Job) -> Spent:
    """Write the network that a copying stage takes from a file."""
    meter = Meter(torch.device("cpu"))
    module = resolve(job.recipe.call)(_context(job.recipe, job.settings, job.classes, job.items))
    save_network(module, job)
    return meter.spent()


def import_problems(
    recipe: StageRecipe, settings: Mapping[str, Any], classes: tuple[str, ...], items: Sequence[Item]
) -> list[str]:
    """What is wrong with the files that an importing stage takes in."""
    return resolve(recipe.check)(_context(recipe, settings, classes, items))


def _context(recipe: StageRecipe, settings: Mapping[str, Any], classes: tuple[str, ...], items: Sequence[Item]) -> Context:
    own = settings_of(settings)
    untrained = {recipe.writes: resolve(recipe.network)(own, classes)} if recipe.network else {}
    return Context(own, classes, items, (), torch.device("cpu"), untrained)
