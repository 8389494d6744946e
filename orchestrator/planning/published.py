"""The published figures that a result is compared with."""

from collections.abc import Iterable

from imagesets.errors import WrongInput
from orchestrator.planning import scores
from orchestrator.planning.components import BASE_NETWORK
from orchestrator.planning.recipe import ADD_ONS, FOLD_ORDER, Published, Recipe
from orchestrator.planning.recipes import find, load_all


def published(images: str, metric: str, components: Iterable[str], segmenter: str = "") -> Published | None:
    """The figure of `metric` ("seed.miou/train") on `images` for exactly this chain of components, if a recipe has one.

    A figure's chain is its recipe's name and the names in `with`; the base network need not be named. A named
    segmenter must be `segmenter` in the same variant (deeplabv2-resnet101).
    """
    known, wanted = load_all(), {*components, BASE_NETWORK}
    for name in sorted(wanted):
        for figure in known[name].published:
            if (figure.images, figure.metric) == (images, metric) and _fits(known[name], figure, wanted, segmenter):
                return figure
    return None


def figures_of(images: str, quantity: str, split: str, components: Iterable[str], segmenter: str = "") -> dict[str, Published]:
    """The published figures of a score, by metric, the main one first."""
    chain = list(components)
    found = {
        name: published(images, scores.metric_name(quantity, name, split), chain, segmenter)
        for name in scores.metrics([quantity])
    }
    return {name: figure for name, figure in found.items() if figure}


def _fits(recipe: Recipe, figure: Published, wanted: set[str], segmenter: str) -> bool:
    words = [word for word in figure.with_.replace(",", "+").replace(" ", "").split("+") if word]
    try:
        named = [find(word, (*FOLD_ORDER, *ADD_ONS)) for word in words]
    except WrongInput:
        return False  # it names a method that does not exist here
    if {recipe.name, BASE_NETWORK, *(other.name for other, _ in named)} != wanted:
        return False
    own = find(segmenter, ("segmenter",)) if segmenter else None
    return all((other, variant) == own for other, variant in named if other.kind == "segmenter")
