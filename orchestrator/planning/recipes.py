"""The recipes: one YAML file per component. They are the only table of what exists; reading them imports no component.

`ls`, `show`, `plan`, `--set` and completion need only the recipes, so they answer at once.
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
ADD_ONS = ("addon", "mixing")  # these add to a training and have no place in the order
Kind = Literal[
    "network",
    "reactivation",
    "extractor",
    "relearning",
    "refiner",
    "segmenter",
    "addon",
    "mixing",
    "backbone",
    "score",
    "shared",
    "images",
    "preset",
]


class Reference(str):
    """A table's entry that names a function, "package.module:function": a stage receives that function."""


class Least(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A bound that depends on another setting of the same recipe: the value is at least `times` * setting + `plus`."""

    setting: str
    times: float = 1
    plus: float = 0


class Setting(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One setting. Its default gives its type; null is a whole number that is found out later.

    With `file: true` a path counts by its content; with `folder: true` by the contents of the files that are named after
    images of the stage's list.
    `choices_from` is a recipe or a kind: the value is a name in its tables, and a stage receives the entry.
    `part_of` is the setting that names the backbone; the values are the backbone's parts and `choices`.
    The elements of a list lie within the bounds. A list has at least one element; `length` and `order` are its form.
    """

    default: Any
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[Any, ...] = ()
    choices_from: str = ""
    part_of: str = ""
    length: int | None = None
    order: Literal["", "ascending", "range"] = ""  # range: start, stop, step
    at_least: Least | None = None
    weights_of: str = ""  # the setting of the same recipe that names the architecture whose weights these are
    file: bool = False
    folder: bool = False
    help: str = ""
    source: str = ""

    @property
    def allowed(self) -> tuple[Any, ...]:
        """The values to choose from, with the names in tables; empty if only the type and the bounds limit the value."""
        parts = parts_of() if self.part_of else ()
        return (*self.choices, *entries(self.choices_from), *parts)


class Quantity(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a score is of."""

    title: str  # "Pseudo mask"
    many: str  # "pseudo masks"
    word: str  # the word that a stage with this score writes
    every: bool = False  # every stage that writes the word has this score, whether or not its recipe says so
    main: str  # the most important metric
    label_maps: bool = False  # it is a label map of each image, which can be exported, and scored from files
    threshold: str = ""  # the setting of the scored component with the threshold that makes label maps


class Metric(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One number of a score. A percentage is kept as a fraction, any other unit as it is."""

    title: str
    unit: str = "percent"
    better: Literal["higher", "lower"] = "higher"
    mean: str = ""  # what it is the mean over
    per_class: str = ""  # if it is a mean over classes: its name among the scores of one class
    class_title: str = ""  # its title there, if it is another
    shown: Literal["tables", "pages", "records"] = "tables"  # in all tables, in tables of pages only, or only in files and MLflow


class Details(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A further table of a report: its columns are fractions of a result, by their path in it, such as `errors.fn`."""

    title: str
    text: str
    columns: dict[str, str]


class Plot(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A figure of a comparison: one metric over another."""

    x: str
    y: str


class Regions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Regions of images that a report shows of a fitted stage.

    `call` is a pure function of one class's record: rows of regions, each an image id and the place of the region's centre
    (row, column) in fractions of the image.
    """

    call: str
    title: str
    text: str


class StageRecipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One stage as a recipe declares it; in an expression it becomes an `orchestrator.planning.stage.Stage`."""

    name: str = ""
    use: str = ""  # "crf.labels": the shared stage of another component; the fields below are then not used
    kind: Literal["train", "map", "copy"] = "map"
    call: str = ""  # "package.module:function"
    network: str = ""  # rebuilds the network of a training stage
    replaces: tuple[Kind, ...] = ()  # of an import: it replaces the last stage of such a component that writes the same word
    check: str = ""  # of an import: `function(context)` says what is wrong with it before anything runs
    over: Literal["images", "classes"] = "images"
    list: Literal["training", "fitting", "scoring", "validation"] = "training"
    if_bound: dict[str, bool] = {}  # the stage exists only if earlier components wrote (true) or did not write (false) the word
    reads: tuple[str, ...] = ()
    reads_if: dict[str, dict[str, Any]] = {}  # words that are read only if settings have these values
    writes: str = ""
    read: str = ""  # of a stage that writes maps: the function that reads them, see `maps.reading`
    provides: tuple[str, ...] = ()  # capabilities of the written word, such as class-weights
    requires: dict[str, tuple[str, ...]] = {}  # capabilities that a word, or the entry that a setting names, must have
    settings: tuple[str, ...] = ()  # "name?": None if there is no such setting
    warnings: str = ""  # `function(records) -> sentences` about the result, printed when the stage is done
    truth: bool = False  # masks reach this stage
    store: Literal["each", "sum"] = "each"  # keep one record per item, or only their sum
    keeps: tuple[str, ...] = ()  # with `store: sum`: the arrays of a record that are kept for each item and not summed
    result: str = ""  # turns a summed record into the JSON result
    resampled: str = ""  # turns the kept arrays into the metrics of any sample of the images
    scored: str = ""  # the quantity that the result is scored as
    cost_unit: bool = False  # its time is part of the unit of cost
    regions: Regions | None = None  # what a report shows of it


class AddOn(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What an add-on or a mixing does to the training of a network."""

    call: str  # `function(training, context) -> training`
    reads: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()  # capabilities that the training's network must have
    settings: tuple[str, ...] = ()


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
    after: str = ""  # the setting that may name a component; this one is then folded after that one
    open: str = ""  # of an image set: `function(path, settings) -> ImageSet` opens it; settings are its own, by their bare names
    make: str = ""  # of a built-in one: `function(parent, settings, make) -> path | None` makes it; None: it is missing
    segmenter: str = ""  # of an image set: the segmenter of its runs unless another is named
    provides: tuple[str, ...] = ()  # of a backbone: the capabilities of its entries
    table: dict[str, Any] = {}  # things by name: "package.module:function" or values; see Setting.choices_from
    parts: tuple[str, ...] = ()  # of a backbone: the parts that can be frozen, in the order in which an image passes them
    settings: dict[str, Setting] = {}
    protocol: tuple[str, ...] = ()  # its settings that stand beside a result: results that differ in them are hard to compare
    memory: tuple[str, ...] = ()  # the settings that its stages' memory grows with: lower them if memory runs out
    variants: dict[str, dict[str, Any]] = {}
    overrides: dict[str, Any] = {}
    published_settings: dict[str, dict[str, Any]] = {}
    quantities: dict[str, Quantity] = {}
    metrics: dict[str, Metric] = {}
    details: tuple[Details, ...] = ()
    plots: tuple[Plot, ...] = ()
    shared_stages: tuple[StageRecipe, ...] = ()
    stages: tuple[StageRecipe, ...] = ()
    adds: AddOn | None = None  # of an add-on or a mixing
    published: tuple[Published, ...] = ()


@cache
def load_all() -> dict[str, Recipe]:
    """Every recipe of the package by name. A malformed recipe raises WrongInput with the file and the field."""
    folder = Path(package.__file__).parent
    found = [load(path) for path in sorted(folder.glob("*.yaml"))]
    return {recipe.name: recipe for recipe in found}


@cache
def entries(source: str) -> dict[str, Any]:
    """The table entries, by name, of the recipe called `source` and of all recipes of the kind `source`."""
    tables = [recipe.table for recipe in load_all().values() if source in (recipe.name, recipe.kind)]
    return {name: Reference(entry) if isinstance(entry, str) else entry for table in tables for name, entry in table.items()}


def parts_of(backbone: str = "") -> tuple[str, ...]:
    """The parts of a backbone in the tables, or of all backbones."""
    recipes = [recipe for recipe in load_all().values() if not backbone or backbone in recipe.table]
    return tuple(dict.fromkeys(part for recipe in recipes for part in recipe.parts))


def load(path: Path) -> Recipe:
    """Read and check one recipe file."""
    try:
        table = yaml.load(path.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        return msgspec.convert(table, Recipe)
    except (yaml.YAMLError, msgspec.ValidationError) as error:
        raise WrongInput(f"recipe {path.name} is malformed: {' '.join(str(error).split())}") from error


def find(name: str, kinds: tuple[str, ...]) -> tuple[Recipe, dict[str, Any]]:
    """The recipe called `name` (a recipe, or recipe-variant) and the variant's settings.

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
