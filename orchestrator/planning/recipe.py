"""What a recipe may declare: the form of the YAML files, checked when they are read."""

from typing import Any, Literal

import msgspec

from orchestrator.planning.score_recipe import Details, Metric, Plot, Quantity

# the order in which the components of an expression are folded; `shared` and `images` hold settings only
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


class Needs(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A value other than 0 needs a `capability` of the entry that another setting of the same recipe names (`of`)."""

    of: str
    capability: str


AUTO = "auto"


class Setting(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One setting. Its default gives its type; null is a whole number that is found out later.

    With `file: true` the setting is a path, and changed content triggers a rerun; with `folder: true` it is a folder, and the
    files count that are named after images of the stage's list.
    `choices_from` is a recipe or a kind: the value is a name in its tables, and a stage receives the entry.
    `part_of` is the setting that names the backbone; the values are the backbone's parts and `choices`. `stride_of` names it
    as well; the value is one of the backbone's output strides.
    The elements of a list lie within the bounds and are among the choices. A list has at least one element; `length` and
    `order` are its form.
    """

    default: Any
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[Any, ...] = ()
    choices_from: str = ""
    part_of: str = ""
    stride_of: str = ""
    length: int | None = None
    order: Literal["", "ascending", "rising", "range"] = ""  # rising: no two alike, but in the default; range: start, stop, step
    at_least: Least | None = None
    needs: Needs | None = None
    told_of: str = ""  # the setting of weights that this one describes; it says what a weights file was trained on
    weights_of: str = ""  # the setting of the same recipe that names the architecture whose weights these are
    file: bool = False
    folder: bool = False
    needed: str = ""  # what a stage that receives it cannot do without; a plan in which the value is none is refused with this
    auto: bool = False  # the word "auto" is a value too: the stage that `chooses` the setting then finds the number
    keyed: bool = True  # false: results do not depend on it, so it is part of no key
    help: str = ""
    source: str = ""


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
    use: str = ""  # "crf.labels": the stage of another component; of the fields below only those that begin with if_ are used
    kind: Literal["train", "map", "copy"] = "map"
    call: str = ""  # "package.module:function"
    class_scores: str = ""  # of a stage that writes predictions: makes the scores behind them, see `segmentation.class_scores`
    network: str = ""  # rebuilds the network of a training stage
    builds: tuple[str, ...] = ("backbone.*",)  # of a training: the settings that `network` reads, for imported weights
    replaces: tuple[Kind, ...] = ()  # of an import: it replaces the last stage of such a component that writes the same word
    check: str = ""  # `function(context)` says, before anything runs, what is wrong with imported files or with settings
    over: Literal["images", "classes"] = "images"
    list: Literal["training", "fitting", "scoring", "validation", "classification"] = "training"
    # the stage exists only if earlier components wrote (true) or did not write (false) the word, or with "word.capability" if
    # what they wrote last has the capability
    if_bound: dict[str, bool] = {}
    if_set: dict[str, Any] = {}  # the stage exists only if settings, by their full names, have these values
    without: tuple[str, ...] = ()  # add-ons that do not add to this training of a network
    cores_unless: dict[str, Any] = {}  # its work behind the network takes many cores, unless settings have these values
    reads: tuple[str, ...] = ()
    reads_if: dict[str, dict[str, Any]] = {}  # words that are read only if settings have these values
    writes: str = ""
    read: str = ""  # of a stage that writes maps: the function that reads them, see `maps.reading`
    provides: tuple[str, ...] = ()  # capabilities of the written word, such as class-weights
    settings_of: str = ""  # a word that it reads: the settings of its writer, such as thresholds, go with the result
    requires: dict[str, tuple[str, ...]] = {}  # capabilities that a word, or the entry that a setting names, must have
    settings: tuple[str, ...] = ()  # see `full_names` in `orchestrator.planning.receiving`
    warnings: str = ""  # `function(records) -> sentences` about the result, printed when the stage is done
    truth: bool = False  # masks reach this stage
    store: Literal["each", "sum"] = "each"  # keep one record per item, or only their sum
    keeps: tuple[str, ...] = ()  # with `store: sum`: the arrays of a record that are kept for each item and not summed
    result: str = ""  # turns a summed record into the JSON result
    resampled: str = ""  # turns the kept arrays into the metrics of any sample of the images
    confusion: str = ""  # `function(classes, kept) -> [K+1,K+1]`: the confusion matrix of the list from the kept arrays
    scored: str = ""  # the quantity that the result is scored as
    chooses: str = ""  # the setting that it chooses where that is auto, see `orchestrator.planning.choosing`
    least_share: int = 1  # of a training: the fewest images in each part of a worker's share of a batch
    cost_unit: bool = False  # its time is part of the unit of cost
    regions: Regions | None = None  # what a report shows of it

    @property
    def per_image(self) -> bool:
        """Whether its result is a record of each image. It depends on no other image of the list, so any list may have it."""
        return self.kind == "map" and self.over == "images" and self.store == "each"


class AddOn(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What an add-on or a mixing does to the training of a network."""

    call: str  # `function(training, context) -> training`
    reads: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()  # capabilities that the training's network must have
    requires_if: dict[str, dict[str, Any]] = {}  # capabilities that it must have only if settings have these values
    least_share: int = 1  # as a stage's
    check: str = ""  # as a stage's
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
    prepare: str = ""  # of an image set: `function(path, settings, spread, show) -> sentences`, see `imagesets.coco_preparation`
    published_refiners: dict[str, tuple[str, ...]] = {}  # of a network, by image set: go before its default refiners
    published_segmenter: dict[str, str] = {}  # of a network, by image set: goes before that image set's own segmenter
    segmenter: str = ""  # of an image set: the segmenter of its runs unless another is named
    provides: tuple[str, ...] = ()  # of a backbone: the capabilities of its entries
    table: dict[str, Any] = {}  # things by name: "package.module:function" or values; see Setting.choices_from
    parts: tuple[str, ...] = ()  # of a backbone: the parts that can be frozen, in the order in which an image passes them
    strides: tuple[int, ...] = ()  # of a backbone: the possible output strides
    settings: dict[str, Setting] = {}
    protocol: tuple[str, ...] = ()  # its settings that stand beside a result: results that differ in them are hard to compare
    memory: tuple[str, ...] = ()  # the settings that its stages' memory grows with: lower them if memory runs out
    variants: dict[str, dict[str, Any]] = {}
    overrides: dict[str, Any] = {}
    published_settings: dict[str, dict[str, Any]] = {}
    companions: dict[str, dict[str, Any]] = {}  # defaults of other components where both are named, see `planning.companions`
    quantities: dict[str, Quantity] = {}
    metrics: dict[str, Metric] = {}
    details: tuple[Details, ...] = ()
    plots: tuple[Plot, ...] = ()
    shared_stages: tuple[StageRecipe, ...] = ()
    stages: tuple[StageRecipe, ...] = ()
    adds: AddOn | None = None  # of an add-on or a mixing
    published: tuple[Published, ...] = ()

    @property
    def prefix(self) -> str:
        """What the full names of its settings begin with."""
        return "images" if self.kind == "images" else self.name

    @property
    def named(self) -> dict[str, dict[str, Any]]:
        """Its name and those of its variants, each with the variant's own settings."""
        return {self.name: {}} | {f"{self.name}-{variant}": values for variant, values in self.variants.items()}
