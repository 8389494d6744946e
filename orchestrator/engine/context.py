"""What a stage's function gets to see: its settings, its items and what the stages before it made."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from imagesets.errors import WrongInput
from maps.maps import StoredMaps
from orchestrator.engine.job import Input, Job, check_attempt, resolve
from orchestrator.planning.recipe import Reference
from orchestrator.storage.attached import fetched, publish
from orchestrator.storage.shards import StoredRecords
from training.checkpoint import save_atomically
from training.stage import Context, Records, Settings


def context(job: Job, device: str) -> Context:
    """The context of a job on a device, with the networks that it reads loaded."""
    where = torch.device(device)
    inputs = {
        word: load_network(source, job.classes, where) if source.network else stored(source.folder, source.read)
        for word, source in job.inputs.items()
    }
    return Context(settings_of(job.settings), job.classes, job.items, (job.random_seed, job.purpose), where, inputs)


def settings_of(values: Mapping[str, Any]) -> Settings:
    """A stage's settings as its function gets them: functions in place of the references to them."""
    return Settings({name: resolve(value) if isinstance(value, Reference) else value for name, value in values.items()})


def stored(folder: Path, read: str) -> Records | StoredMaps:
    """What a finished map stage stored, by image id: maps where its recipe names their reader, else named arrays."""
    records = StoredRecords(folder)
    return StoredMaps(records, resolve(read)) if read else records


def save_network(module: nn.Module, job: Job) -> None:
    """Write the network that a job delivers; raises what `check_attempt` does where somebody else has taken over."""
    path = job.folder / "network.pt"
    save_atomically(module.state_dict(), path, lambda: check_attempt(job))
    publish(path, path)


def load_network(source: Input, classes: tuple[str, ...], device: torch.device) -> nn.Module:
    """A finished training stage's network on `device`, in evaluation mode."""
    module = resolve(source.network)(settings_of(source.settings), classes)
    path = fetched(source.folder / "network.pt")
    try:
        module.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except RuntimeError as error:
        raise WrongInput(
            f"{path} does not hold the network that {source.network} builds: {str(error).splitlines()[0]}"
        ) from error
    module.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return module.eval().requires_grad_(False)
