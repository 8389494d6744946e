"""One stage to run, as it is sent to whoever runs it; nothing here knows which engine does."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from imagesets.item_list import ItemList
from orchestrator.engine.spent import Spent
from orchestrator.planning.recipe import StageRecipe
from orchestrator.planning.references import resolve as resolve
from orchestrator.storage.lease import DriverLost, LeaseLost
from orchestrator.storage.result import Attempt, Result
from orchestrator.storage.shards import SHARD, Shards
from orchestrator.storage.trouble import StoreAbsent, StoreGone, blame
from training.loop import Stopped

Done = Callable[[int, Spent], None]  # told of the items of a shard and what it took
Ask = Callable[[], None]  # asked now and then whether to go on; raises if not
Tell = Callable[[str], None]  # told what a person should know
RETRIES = 3  # of what a worker died in; an exception in our own code would only come again


class WorkerLost(Exception):
    """A worker died, or the node that it ran on; another attempt continues from the checkpoint."""


@dataclass(frozen=True)
class Input:
    """The finished stage behind a word: its result, how to rebuild the network that it delivers, how to read its maps."""

    result: Result
    network: str
    settings: Mapping[str, Any]
    read: str = ""  # the reader of its maps


@dataclass(frozen=True, eq=False)
class Job:
    """One stage to run; equal where the attempts are."""

    name: str
    attempt: Attempt
    recipe: StageRecipe
    settings: Mapping[str, Any]
    random_seed: int
    purpose: str  # of its random numbers: two stages that call one function have a name each
    add_ons: tuple[str, ...]  # functions that add to a training
    classes: tuple[str, ...]
    items: ItemList
    inputs: Mapping[str, Input]

    def __hash__(self) -> int:
        return hash(self.attempt)

    @property
    def folder(self) -> Path:
        """The stage's, on this machine."""
        return self.attempt.folder

    @property
    def root(self) -> Path:
        """The store's."""
        return self.folder.parents[1]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Job) and self.attempt == other.attempt

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

    def settle(self) -> None:
        """Make sure that this machine has the results that the job reads, and no others."""
        for result in (*(source.result for source in self.inputs.values()), self.attempt):
            result.settle()

    def uses_network(self) -> bool:
        """Whether a GPU would help."""
        return any(source.network for source in self.inputs.values())


@contextmanager
def blaming(root: Path) -> Iterator[None]:
    """Where the block fails because the store at `root` does, raise what `blame` says of the store."""
    try:
        yield
    except (StoreAbsent, StoreGone, LeaseLost, DriverLost, Stopped):
        raise
    except Exception as error:
        blame(error, root)
        raise
