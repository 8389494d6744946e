"""Scores as text, in the unit that the metric declares."""

from orchestrator.planning.score_recipe import Metric
from orchestrator.reading.summary import Spread

NONE = "-"  # a mean over nothing, such as the precision of a class that is never predicted, is undefined, not 0


def told(value: float | None, metric: Metric) -> str:
    """The text of a metric's value; a fraction is in percent."""
    return NONE if value is None else f"{scale(metric) * value:{form(metric)}}"


def in_words(value: float | None, metric: Metric) -> str:
    """Title, value and unit: "mIoU 74.1 %"."""
    return f"{metric.title} {told(value, metric)} {'%' if metric.unit == 'percent' else metric.unit}".rstrip()


def told_spread(spread: Spread | None, metric: Metric, signed: bool = False) -> str:
    """Mean ± standard deviation; of one value only the mean."""
    if spread is None:
        return NONE
    mean = f"{scale(metric) * spread.mean:{'+' if signed else ''}{form(metric)}}"
    return mean if spread.std is None else f"{mean} ± {scale(metric) * spread.std:{form(metric)}}"


def heading(metric: Metric) -> str:
    """The title of a metric, with its unit unless that is percent."""
    return metric.title if metric.unit == "percent" else f"{metric.title} ({metric.unit})"


def axis(metric: Metric) -> str:
    """The title of a figure's axis."""
    return f"{metric.title} in {metric.unit}"


def scale(metric: Metric) -> float:
    """The factor from a value to the metric's unit."""
    return 100.0 if metric.unit == "percent" else 1.0


def form(metric: Metric) -> str:
    """The format of a value in the metric's unit."""
    return ".1f" if metric.unit == "percent" else ".3g"
