"""What a stage's function gets to see: its settings, its items and what the stages before it made."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from imagesets.errors import WrongInput
from imagesets.item import Item
from maps.maps import StoredMaps
from orchestrator.engine.job import Input, Job, resolve
from orchestrator.planning.recipe import Reference, StageRecipe
from orchestrator.storage.shards import StoredRecords
from training.stage import Context, Records, Settings


def context(job: Job, device: str) -> Context:
    """The context of a job on a device, with the networks that it reads loaded."""
    where = torch.device(device)
    inputs = {
        word: load_network(source, job.classes, where) if source.network else stored(source.result.folder, source.read)
        for word, source in job.inputs.items()
    }
    return Context(settings_of(job.settings), job.classes, job.items, (job.random_seed, job.purpose), where, inputs)


def importing(recipe: StageRecipe, settings: Mapping[str, Any], classes: tuple[str, ...], items: Sequence[Item]) -> Context:
    """The context of a stage that takes in another program's files; a network is there without weights."""
    own = settings_of(settings)
    untrained = {recipe.writes: resolve(recipe.network)(own, classes)} if recipe.network else {}
    return Context(own, classes, items, (), torch.device("cpu"), untrained)


def settings_of(values: Mapping[str, Any]) -> Settings:
    """A stage's settings as its function gets them: functions in place of the references to them."""
    return Settings({name: resolve(value) if isinstance(value, Reference) else value for name, value in values.items()})


def stored(folder: Path, read: str) -> Records | StoredMaps:
    """What a finished map stage stored, by image id: maps where its recipe names their reader, else named arrays."""
    records = StoredRecords(folder)
    return StoredMaps(records, resolve(read)) if read else records


def save_network(module: nn.Module, job: Job) -> None:
    """Write the network that a job delivers."""
    with job.attempt.writing("network.pt") as file:
        torch.save(module.state_dict(), file)


def load_network(source: Input, classes: tuple[str, ...], device: torch.device) -> nn.Module:
    """A finished training stage's network on `device`, in evaluation mode."""
    module = resolve(source.network)(settings_of(source.settings), classes)
    path = source.result.file("network.pt")
    try:
        module.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except RuntimeError as error:
        raise WrongInput(
            f"{path} does not hold the network that {source.network} builds: {str(error).splitlines()[0]}"
        ) from error
    module.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return module.eval().requires_grad_(False)
