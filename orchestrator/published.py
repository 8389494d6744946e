"""The published figure that a result is compared with."""

from collections.abc import Iterable

from orchestrator.expression import BASE_NETWORK
from orchestrator.recipes import Published, Recipe, load_all


def published(images: str, metric: str, components: Iterable[str]) -> Published | None:
    """The figure of `metric` ("seed.miou/train") on `images` for exactly this chain of components, if a recipe has one.

    A figure's chain is its recipe's name and what its `with` names; the base network goes without saying.
    """
    known = load_all()
    wanted = {*components, BASE_NETWORK}
    for name in sorted(wanted):
        for figure in known[name].published:
            if (figure.images, figure.metric) == (images, metric) and _chain(known[name], figure) == wanted:
                return figure
    return None


def _chain(recipe: Recipe, figure: Published) -> set[str]:
    """The components of a figure: variants (deeplabv2-resnet101) count as their recipe, `none` as no component."""
    known = load_all()
    words = figure.with_.replace(",", "+").replace(" ", "").split("+")
    names = {next((name for name in (word, word.partition("-")[0]) if name in known), word) for word in words if word}
    return {recipe.name, BASE_NETWORK, *names} - {"none"}
