"""The form of `recipes/tables/*.yaml`: a table or a figure of a paper on one image set, with its published values."""

from typing import Any, Literal

import msgspec

OURS = "wsss-orch"  # the "paper" of a table of our own
Runs = int | Literal["unspecified"]  # the number of runs that a value is the mean of; unspecified: the paper does not say


class Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One row. Without an expression it is quoted: a system that does not exist here.

    A value is a number, {mean, std}, {max, mean, std}, {count, share} of pixels, a list with one value a class, or null (the
    paper has a curve or a word, and no number).
    """

    label: str
    expression: str = ""
    settings: dict[str, Any] = {}  # what differs from the method's defaults on that image set
    times: dict[str, float] = {}  # settings that are this multiple of what they would be
    segmenter: str = ""  # none: the row ends with its pseudo masks or seeds
    values: dict[str, Any] = {}  # by column
    runs: Runs | None = None  # where it differs from the table's
    note: str = ""
    panel: str = ""  # of a figure: the panel, the curve and the place on its axis
    line: str = ""
    at: float | None = None
    backbone: str = ""  # as printed
    reported: bool = False  # the paper took the value from the method's own paper
    saliency: bool = False  # made with saliency maps
    external: bool = False  # made with other further data
    initial: str = ""  # the segmenter's initial weights saw masks of this image set
    diverged: bool = False
    difference: dict[str, float] = {}  # a printed gain by column, over the expression `against`
    against: str = ""
    other_version: dict[str, Any] = {}  # values of another version of the paper
    repositories: dict[str, str] = {}  # public code by steps


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One table. Columns are scores by their names, such as seed.miou/train (see `orchestrator.tables.columns`)."""

    id: str
    paper: str
    table: str  # its printed name
    caption: str
    images: str  # the image set of the published values
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    runs: Runs = "unspecified"
    note: str = ""
    fractions: tuple[str, ...] = ()  # columns that the paper prints as fractions; all others are in percent
    classes: tuple[str, ...] = ()  # the order of lists of classes
    axis: str = ""  # of a figure: the title of its axis; panels have their own
    optimum: dict[str, Any] = {}  # of a figure: the settings that the paper found best
    recipe: str = ""  # of a table of our own: its preset
    segmenter: str = ""  # of a table of our own: the segmenter of its rows

    @property
    def own(self) -> bool:
        """Whether it is a table of our own."""
        return self.paper == OURS

    @property
    def name(self) -> str:
        """How people call it: "LPCAM Table 2"."""
        return self.table if self.own else f"{self.paper} {self.table}"

    @property
    def varied(self) -> list[str]:
        """The settings in which rows differ."""
        return list(dict.fromkeys(name for row in self.rows for name in row.settings))

    @property
    def is_figure(self) -> bool:
        """Whether it is drawn."""
        return self.table.startswith("Figure")
