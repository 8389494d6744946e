"""A job: one stage to run, as every engine gets it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from imagesets.item_list import ItemList
from orchestrator.planning.recipe import StageRecipe
from orchestrator.storage.lease import DriverLost, LeaseLost
from orchestrator.storage.result import Attempt, Result
from orchestrator.storage.shards import SHARD, Shards
from orchestrator.storage.trouble import StoreAbsent, StoreGone, blame
from training.loop import Stopped

Ask = Callable[[], None]  # called now and then; raises if the stage must end
Tell = Callable[[str], None]  # called with a line for the person
RETRIES = 3  # after a worker died; an exception of our own code would only come again


class WorkerLost(Exception):
    """A worker or its node died; another attempt continues from the checkpoint."""


@dataclass(frozen=True)
class Input:
    """A finished stage that a job reads; `network` and `read` are references to functions, "" for none."""

    result: Result
    network: str  # rebuilds the network that the stage delivers
    settings: Mapping[str, Any]
    read: str = ""  # reads the stage's maps


@dataclass(frozen=True, eq=False)
class Job:
    """One stage to run; two jobs with equal attempts are equal."""

    name: str
    attempt: Attempt
    recipe: StageRecipe
    settings: Mapping[str, Any]
    random_seed: int
    purpose: str  # of its random numbers; two stages that call one function have different ones
    add_ons: tuple[str, ...]  # references to functions that add to a training
    classes: tuple[str, ...]
    items: ItemList
    inputs: Mapping[str, Input]
    siblings: tuple[Result, ...] = ()  # results over other lists, whose records of these items are taken over

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Job) and self.attempt == other.attempt

    def __hash__(self) -> int:
        return hash(self.attempt)

    @property
    def folder(self) -> Path:
        """The folder of the stage on this machine."""
        return self.attempt.folder

    @property
    def root(self) -> Path:
        """The root of the store on this machine."""
        return self.folder.parents[1]

    def parts(self) -> Sequence[Any]:
        """What a per-item stage goes over: images, or the indices of the classes."""
        return range(len(self.classes)) if self.recipe.over == "classes" else self.items

    def shards(self) -> Shards:
        """The parts, cut into shards; a class is a shard, because it is as much work as many images."""
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
        """Whether the job computes with a network, so that a GPU would help."""
        return any(source.network for source in self.inputs.values())

    def takes_cores(self) -> bool:
        """Whether many cores are busy behind the network."""
        unless = self.recipe.cores_unless
        return bool(unless) and not unless.items() <= self.settings.items()


@contextmanager
def blaming(root: Path) -> Iterator[None]:
    """If the block fails because of the store at `root`, raise an error about the store; see `blame`."""
    try:
        yield
    except (StoreAbsent, StoreGone, LeaseLost, DriverLost, Stopped):
        raise
    except Exception as error:
        blame(error, root)
        raise


@contextmanager
def naming(stage: str, *names: str) -> Iterator[None]:
    """If the block fails, note on the error which stage failed on which images or classes."""
    try:
        yield
    except Exception as error:
        error.add_note(f"{stage} failed on {', '.join(names)}")
        raise
