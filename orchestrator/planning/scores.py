"""The scores of runs: the quantities, metrics and stages that the recipes of kind `score` declare.

Tables, pages, comparisons, MLflow, sweeps, `export` and `evaluate` know scores only from here.
"""

from collections.abc import Iterable, Mapping

from imagesets.errors import WrongInput
from orchestrator.planning.recipe import Recipe, StageRecipe
from orchestrator.planning.recipes import load_all
from orchestrator.planning.score_recipe import Metric, Plot, Quantity

LEVELS = ("tables", "pages", "records")  # a metric of a level is shown at this level and at the levels after it


def recipes() -> list[Recipe]:
    """The score recipes; first those whose quantities stages are scored as, then those that score every stage with a word."""
    found = (recipe for recipe in load_all().values() if recipe.kind == "score")
    return sorted(found, key=lambda recipe: (all(about.every for about in recipe.quantities.values()), not recipe.quantities))


def quantities() -> dict[str, Quantity]:
    """Every quantity by name, in the order in which a run makes them."""
    return {name: quantity for recipe in recipes() for name, quantity in recipe.quantities.items()}


def of_stage(stage: StageRecipe) -> list[str]:
    """The quantities of a stage: the one that its recipe names, and those of every stage that writes its word."""
    every = [name for name, quantity in quantities().items() if quantity.every and quantity.word == stage.writes]
    return list(dict.fromkeys([*filter(None, [stage.scored]), *every]))


def stages(quantity: str) -> list[tuple[Recipe, StageRecipe]]:
    """The stages that score `quantity`, with their recipes. Raises WrongInput if there is none."""
    found = [(recipe, part) for recipe in recipes() for part in recipe.stages if part.name == quantity]
    if not found:
        raise WrongInput(f"no score recipe has a stage {quantity!r}; known are {', '.join(quantities())}")
    return found


def metrics(of: Iterable[str], shown: str = "records") -> dict[str, Metric]:
    """The metrics of some quantities that are shown at a level, the main ones first. Raises WrongInput if a name occurs twice."""
    wanted = list(dict.fromkeys(of))
    found: dict[str, Metric] = {}
    for recipe in recipes():
        if any(part.name in wanted for part in recipe.stages):
            if twice := found.keys() & recipe.metrics.keys():
                raise WrongInput(
                    f"two score recipes declare the metric {min(twice)!r}; {recipe.name} must give its own another name"
                )
            found |= recipe.metrics
    mains = {quantities()[quantity].main for quantity in wanted}
    ordered = sorted(found, key=lambda name: name not in mains)
    return {name: found[name] for name in ordered if LEVELS.index(found[name].shown) <= LEVELS.index(shown)}


def class_metrics(of: Iterable[str]) -> dict[str, tuple[str, Metric]]:
    """The scores of one class: name -> title, and the metrics that are their means."""
    found = metrics(of, "pages").values()
    return {metric.per_class: (metric.class_title or metric.title, metric) for metric in found if metric.per_class}


def plots(quantity: str) -> list[tuple[Metric, Metric, Plot]]:
    """The metrics, x and y, of the figures that a comparison shows of a quantity."""
    known = metrics([quantity])
    return [(known[plot.x], known[plot.y], plot) for recipe, _ in stages(quantity) for plot in recipe.plots]


def plot_names() -> list[str]:
    """The names of the plots that `compare --plot` draws."""
    return sorted({plot.name for quantity in quantities() for *_, plot in plots(quantity) if plot.name})


def main(quantity: str) -> str:
    """The name of a quantity's main metric."""
    return quantities()[quantity].main


def main_metric(quantity: str) -> Metric:
    """A quantity's main metric."""
    return metrics([quantity])[main(quantity)]


def class_title(quantity: str) -> str:
    """The title of a quantity's main metric as a score of one class."""
    metric = main_metric(quantity)
    return metric.class_title or metric.title


def metric_name(quantity: str, metric: str, split: str) -> str:
    """The name of a score in published figures, MLflow and sweeps: `seed.miou/train`."""
    return f"{quantity}.{metric}/{split}"


def label_maps() -> Mapping[str, Quantity]:
    """The quantities that are a label map of each image."""
    return {name: quantity for name, quantity in quantities().items() if quantity.label_maps}


def drawable(quantity: str) -> bool:
    """Whether the quantity is label maps, or maps that a threshold makes into label maps."""
    about = quantities().get(quantity)
    return about is not None and (about.label_maps or bool(about.threshold))


def of_word(word: str) -> str:
    """The quantity as which a stage that writes `word` is scored, rather than one that scores every such stage."""
    found = {name: quantity for name, quantity in quantities().items() if quantity.word == word}
    return min(found, key=lambda name: found[name].every)
