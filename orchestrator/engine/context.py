"""The context of a stage's function: its settings, its items, and the results that it reads."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import nn

from backbones.extraction import for_extraction
from backbones.layout import move
from imagesets.errors import WrongInput
from imagesets.item import Item
from maps.maps import StoredMaps
from orchestrator.engine.job import Input, Job
from orchestrator.planning.recipe import Reference, StageRecipe
from orchestrator.planning.references import resolve
from orchestrator.storage.place import NETWORK
from orchestrator.storage.shards import StoredRecords
from training.stage import Context, Records, Settings


def context(job: Job, device: str) -> Context:
    """The context of a job on a device, with the networks that it reads loaded; this machine drops what is of other results."""
    for result in (*(source.result for source in job.inputs.values()), job.attempt):
        result.settle()
    where = torch.device(device)
    inputs = {word: _input(job, source, where) for word, source in job.inputs.items()}
    items = () if job.recipe.per_image else job.items
    return Context(settings_of(job.settings), job.classes, items, (job.random_seed, job.purpose), where, inputs)


def _input(job: Job, source: Input, device: torch.device) -> Any:
    """What a stage gets for a word. A training may take over weights by their names, so it gets a network as it was trained."""
    if not source.network:
        return stored(source.result.folder, source.read)
    network = load_network(source, job.classes, device)
    if job.recipe.kind == "train":
        return network
    return for_extraction(network, job.settings.get("extraction.precision", "float32"), device)


def importing(recipe: StageRecipe, settings: Mapping[str, Any], classes: tuple[str, ...], items: Sequence[Item]) -> Context:
    """The context of a stage that imports another program's files; the network that it writes has no weights yet."""
    own = settings_of(settings)
    untrained = {recipe.writes: resolve(recipe.network)(own, classes)} if recipe.kind == "copy" else {}
    return Context(own, classes, items, (), torch.device("cpu"), untrained)


def settings_of(values: Mapping[str, Any]) -> Settings:
    """A stage's settings with functions in place of references to them."""
    return Settings({name: resolve(value) if isinstance(value, Reference) else value for name, value in values.items()})


def stored(folder: Path, read: str) -> Records | StoredMaps:
    """The records of a finished per-item stage: maps if `read` names their reader, else named arrays."""
    records = StoredRecords(folder)
    return StoredMaps(records, resolve(read)) if read else records


def save_network(module: nn.Module, job: Job) -> None:
    """Write the network that a job delivers to its folder."""
    with job.attempt.writing(NETWORK) as file:
        torch.save(module.state_dict(), file)


def load_network(source: Input, classes: tuple[str, ...], device: torch.device) -> nn.Module:
    """A finished training stage's network on `device`, in evaluation mode."""
    module = resolve(source.network)(settings_of(source.settings), classes)
    path = source.result.file(NETWORK)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, UnpicklingError) as error:
        raise damaged(path) from error
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise WrongInput(
            f"{path} does not hold the network that {source.network} builds: {str(error).splitlines()[0]}"
        ) from error
    return move(module, device).eval().requires_grad_(False)


def damaged(network: Path) -> WrongInput:
    """The error for a file in the store that is no whole network."""
    return WrongInput(f"{network} is damaged; launch its run again with --force and the name of the stage to train it anew")
