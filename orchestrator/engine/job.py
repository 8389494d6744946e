"""One stage to run, as it is sent to whoever runs it; nothing here knows which engine does."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from imagesets.item_list import ItemList
from orchestrator.planning.recipe import StageRecipe
from orchestrator.planning.references import resolve as resolve
from orchestrator.storage.attached import Attachment, attach_worker, belongs, fetched
from orchestrator.storage.driver import DriverLost, check_begun, check_driver
from orchestrator.storage.lease import LeaseLost, check_fence
from orchestrator.storage.shards import SHARD, Shards
from orchestrator.storage.trouble import StoreAbsent, StoreGone, blame
from training.loop import Stopped

RETRIES = 3  # of what a worker died in; an exception in our own code would only come again


class WorkerLost(Exception):
    """A worker died, or the node that it ran on; another attempt continues from the checkpoint."""


@dataclass(frozen=True)
class Input:
    """The finished stage behind a word: its folder, how to rebuild the network that it delivers, how to read its maps."""

    folder: Path
    network: str
    settings: Mapping[str, Any]
    digest: str = ""  # of its result
    read: str = ""  # the reader of its maps


@dataclass(frozen=True, eq=False)
class Job:
    """One stage to run; equal where folder and attempt are equal."""

    name: str
    folder: Path
    token: str  # of the lease: names this attempt
    recipe: StageRecipe
    settings: Mapping[str, Any]
    random_seed: int
    purpose: str  # of its random numbers: two stages that call one function have a name each
    add_ons: tuple[str, ...]  # functions that add to a training
    classes: tuple[str, ...]
    items: ItemList
    inputs: Mapping[str, Input]
    made_from: str  # digest over the inputs' content
    remote: Attachment | None = None  # of a store on S3

    def __hash__(self) -> int:
        return hash((self.folder, self.token))

    @property
    def root(self) -> Path:
        """The store's."""
        return self.folder.parents[1]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Job) and (self.folder, self.token) == (other.folder, other.token)

    def parts(self) -> Sequence[Any]:
        """What a per-item stage goes over: its images, or the class indices."""
        return range(len(self.classes)) if self.recipe.over == "classes" else self.items

    def shards(self) -> Shards:
        """The parts cut into shards; a class is as much work as many images and makes a shard of its own."""
        return Shards(self.parts(), 1 if self.recipe.over == "classes" else SHARD)

    def names(self) -> Iterator[list[str]]:
        """The record names of the parts, shard by shard."""
        names = iter(self.classes) if self.recipe.over == "classes" else self.items.names()
        while shard := list(islice(names, self.shards().size)):
            yield shard

    def name_of(self, part: Any) -> str:
        """The record name of a part."""
        return self.classes[part] if self.recipe.over == "classes" else part.id

    def uses_network(self) -> bool:
        """Whether a GPU would help."""
        return any(source.network for source in self.inputs.values())


def at_home(job: Job) -> Job:
    """The job with its folders in this machine's own mirror, where the store is on S3."""
    return job if job.remote is None else _at_home(job)


@lru_cache(maxsize=4)
def _at_home(job: Job) -> Job:
    assert job.remote is not None
    here, there = attach_worker(job.remote), job.remote.root
    inputs = {}
    for word, source in job.inputs.items():
        folder = here / source.folder.relative_to(there)
        belongs(folder, source.digest)
        inputs[word] = replace(source, folder=folder)
    own = here / job.folder.relative_to(there)
    own.mkdir(parents=True, exist_ok=True)
    fetched(own / "made_from.json")  # without it, a command on this machine would take the folder for another result's
    return replace(job, folder=own, inputs=inputs)


def check_attempt(job: Job) -> None:
    """Raise LeaseLost or DriverLost where another attempt has taken the stage over, or another launch the whole store."""
    if job.remote is None:
        check_fence(job.folder / "lease.json", job.token)
        return
    check_driver(job.folder, job.remote.driver)  # the lease of the stage is in the driver's mirror alone
    if job.recipe.kind == "train":  # a shard is the same whoever makes it
        check_begun(job.folder, job.token)


@contextmanager
def blaming(root: Path) -> Iterator[None]:
    """Tell a failure of the block that the store at `root` is to blame for as that: see `blame`."""
    try:
        yield
    except (StoreAbsent, StoreGone, LeaseLost, DriverLost, Stopped):
        raise
    except Exception as error:
        blame(error, root)
        raise
