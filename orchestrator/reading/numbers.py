"""Scores as text, in the unit that the metric declares."""

from collections.abc import Iterable, Mapping

from orchestrator.planning import scores
from orchestrator.planning.recipe import Published
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
    return told_mean(spread.mean, spread.std, metric, signed)


def told_mean(mean: float, std: float | None, metric: Metric, signed: bool = False) -> str:
    """Mean ± standard deviation, if that is known."""
    told = f"{scale(metric) * mean:{'+' if signed else ''}{form(metric)}}"
    return told if std is None else f"{told} ± {scale(metric) * std:{form(metric)}}"


def heading(metric: Metric) -> str:
    """The title of a metric, with its unit unless that is percent."""
    return metric.title if metric.unit == "percent" else f"{metric.title} ({metric.unit})"


def explained(metrics: Iterable[Metric]) -> str:
    """Sentences on metrics: what they are, what they are the means over, and which are better lower."""
    found, means = list(metrics), dict[str, list[str]]()
    for metric in found:
        means.setdefault(metric.mean, []).append(metric.title)
    told = [f"{metric.title} is {metric.about}." for metric in found if metric.about]
    told += [f"Mean over {mean}: {', '.join(titles)}." for mean, titles in means.items() if mean]
    lower = " and ".join(metric.title for metric in found if metric.better == "lower")
    return " ".join([*told, f"Higher is better, except for {lower}." if lower else "Higher is better."])


def told_figures(figures: Mapping[str, Published], quantity: str) -> str:
    """Published figures by their source: "68.0, F 45.1, J&F 56.6 (HFPL Table 2)"; the main metric's stands without its title."""
    metrics, sources = scores.metrics([quantity]), dict[str, list[str]]()
    for name, figure in figures.items():
        title = "" if name == scores.main(quantity) else f"{metrics[name].title} "
        sources.setdefault(figure.source, []).append(f"{title}{figure.value}")
    return "; ".join(f"{', '.join(values)} ({source})" for source, values in sources.items())


def axis(metric: Metric) -> str:
    """The title of a figure's axis."""
    return f"{metric.title} in {metric.unit}"


def scale(metric: Metric) -> float:
    """The factor from a value to the metric's unit."""
    return 100.0 if metric.unit == "percent" else 1.0


def form(metric: Metric) -> str:
    """The format of a value in the metric's unit."""
    return ".1f" if metric.unit == "percent" else ".3g"
