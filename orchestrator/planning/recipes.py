"""The recipes: one YAML file per component is the whole table of what exists, read without importing any component.

`ls`, `show`, `plan`, `--set` and completion need nothing else, which is why they answer at once.
"""

from functools import cache
from pathlib import Path
from typing import Any, Literal

import msgspec
import yaml

import recipes as package
from imagesets.errors import WrongInput
from orchestrator.planning.nearest import nearest

# the order in which the components of an expression are folded (design 4); `shared` and `images` hold settings only
FOLD_ORDER = ("network", "reactivation", "extractor", "relearning", "refiner", "segmenter")
Kind = Literal[
    "network", "reactivation", "extractor", "relearning", "refiner", "segmenter", "evaluation", "shared", "images", "preset"
]


class Setting(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One setting: its default gives its type; `null: true` admits null; `file: true` means that a path counts by its content.

    `folder: true` likewise, by the contents of the folder's files that are named after images of the stage's list.
    """

    default: Any
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[Any, ...] | None = None
    null: bool = False
    file: bool = False
    folder: bool = False
    help: str = ""
    source: str = ""


class StageRecipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One stage as a recipe declares it; see `orchestrator.planning.expression.Stage` for what it becomes in a plan."""

    name: str = ""
    use: str = ""  # "crf.labels": the shared stage of another component, in place of everything below
    kind: Literal["train", "map", "copy"] = "map"
    call: str = ""  # "package.module:function"
    network: str = ""  # rebuilds the module that a training stage delivers
    replaces: tuple[Kind, ...] = ()  # of an import: it stands for the last stage of such a component that writes the same word
    check: str = ""  # of an import: `function(context)` says what is wrong with it before anything runs
    over: Literal["images", "classes"] = "images"
    list: Literal["training", "scoring", "validation"] = "training"
    reads: tuple[str, ...] = ()
    reads_if: dict[str, dict[str, Any]] = {}  # words that are read only where settings have these values
    writes: str = ""
    settings: tuple[str, ...] = ()
    truth: bool = False  # masks reach this stage
    store: Literal["each", "sum"] = "each"  # keep one record per item, or only their sum
    result: str = ""  # turns a summed record into the JSON result
    scored: Literal["", "seed", "pseudo", "seg"] = ""


class Published(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A figure of a paper, in percent, with the table it stands in."""

    images: str
    metric: str
    value: float
    source: str
    with_: str = msgspec.field(default="", name="with")


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One component."""

    name: str
    kind: Kind
    title: str
    paper: str = ""
    code: dict[str, str] = {}
    summary: str = ""
    default_refiners: tuple[str, ...] = ()
    after: str = ""  # the setting that may name another component for this one to be folded after
    segmenter: str = ""  # of an image set: the segmenter that its runs take unless another is named
    settings: dict[str, Setting] = {}
    memory: tuple[str, ...] = ()  # the settings that the memory of its stages grows with: what to lower where it runs out
    variants: dict[str, dict[str, Any]] = {}
    overrides: dict[str, Any] = {}
    published_settings: dict[str, dict[str, Any]] = {}
    shared_stages: tuple[StageRecipe, ...] = ()
    stages: tuple[StageRecipe, ...] = ()
    published: tuple[Published, ...] = ()


@cache
def load_all() -> dict[str, Recipe]:
    """Every recipe of the package by name. Raises WrongInput naming the file and the field where a recipe is malformed."""
    folder = Path(package.__file__).parent
    found = [load(path) for path in sorted(folder.glob("*.yaml"))]
    return {recipe.name: recipe for recipe in found}


def load(path: Path) -> Recipe:
    """Read and check one recipe file."""
    try:
        table = yaml.load(path.read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        return msgspec.convert(table, Recipe)
    except (yaml.YAMLError, msgspec.ValidationError) as error:
        raise WrongInput(f"recipe {path.name} is malformed: {' '.join(str(error).split())}") from error


def find(name: str, kinds: tuple[str, ...]) -> tuple[Recipe, dict[str, Any]]:
    """The recipe called `name`, or `name` = recipe-variant, with the variant's settings.

    Raises WrongInput with the nearest existing name.
    """
    known: dict[str, tuple[Recipe, dict[str, Any]]] = {
        key: (recipe, {}) for key, recipe in load_all().items() if recipe.kind in kinds
    }
    for recipe, _ in list(known.values()):
        known |= {f"{recipe.name}-{variant}": (recipe, values) for variant, values in recipe.variants.items()}
    if name not in known:
        what = "method or refiner" if len(kinds) > 1 else kinds[0].replace("images", "kind of image set")
        raise WrongInput(f"there is no {what} called {name!r}{nearest(name, known)}")
    return known[name]
