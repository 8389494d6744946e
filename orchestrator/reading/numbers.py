"""How a score is written for people: in the unit that its metric declares."""

from orchestrator.planning.score_recipe import Metric
from orchestrator.reading.summary import Spread

NONE = "-"  # a mean over nothing (a precision where nothing was predicted) is undefined, not 0


def told(value: float | None, metric: Metric) -> str:
    """A value of a metric, of a fraction in percent."""
    return NONE if value is None else f"{scale(metric) * value:{form(metric)}}"


def in_words(value: float | None, metric: Metric) -> str:
    """Title, value and unit: "mIoU 74.1 %"."""
    return f"{metric.title} {told(value, metric)} {'%' if metric.unit == 'percent' else metric.unit}".rstrip()


def told_spread(spread: Spread | None, metric: Metric, signed: bool = False) -> str:
    """Mean ± standard deviation; the mean alone of one value."""
    if spread is None:
        return NONE
    mean = f"{scale(metric) * spread.mean:{'+' if signed else ''}{form(metric)}}"
    return mean if spread.std is None else f"{mean} ± {scale(metric) * spread.std:{form(metric)}}"


def heading(metric: Metric) -> str:
    """Its title, with a unit that is not percent."""
    return metric.title if metric.unit == "percent" else f"{metric.title} ({metric.unit})"


def axis(metric: Metric) -> str:
    """The title of a figure's axis."""
    return f"{metric.title} in {metric.unit}"


def scale(metric: Metric) -> float:
    """What a value is multiplied by to be in the metric's unit."""
    return 100.0 if metric.unit == "percent" else 1.0


def form(metric: Metric) -> str:
    """The format of a value in its unit."""
    return ".1f" if metric.unit == "percent" else ".3g"
