"""What a recipe of `kind: score` declares: what is scored, the metrics, and how pages show them."""

from typing import Literal

import msgspec


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
    about: str = ""  # what it is, if its title does not say so
    mean: str = ""  # what it is the mean over
    per_class: str = ""  # if it is a mean over classes: the score of one class that it is the mean of
    class_title: str = ""  # the title of that score, if it is another
    shown: Literal["tables", "pages", "records"] = "tables"  # in all tables, in tables of pages only, or only in files and MLflow


class Details(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A further table of a report. `columns` are titles by the path of a fraction or a whole number in a result (`errors.fn`)."""

    title: str
    text: str
    columns: dict[str, str]


class Plot(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A figure of a comparison: one metric over another."""

    x: str
    y: str
    name: str = ""  # by which `compare --plot` draws it into a file
