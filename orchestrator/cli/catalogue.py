"""`wsss-orch ls` and `wsss-orch show`: the components, read from the recipes alone."""

from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from imagesets.errors import WrongInput
from orchestrator.planning import scores
from orchestrator.planning.inherited import MODEL, with_unnamed_methods
from orchestrator.planning.nearest import nearest
from orchestrator.planning.recipe import ADD_ONS, AUTO, FOLD_ORDER, Published, Recipe, Setting, StageRecipe
from orchestrator.planning.recipes import allowed, find, load_all
from orchestrator.planning.settings import declared
from orchestrator.reading.tables import fitting, table, terminal

# the kinds that can be named on a command line, in the order of the list
LISTED = (*FOLD_ORDER, *ADD_ONS, "backbone", "images", "preset")
FURTHER = ("published on VOC 2012 (%)", "public code's licence")  # columns of `ls` where there is room


def ls(
    pattern: Annotated[str, typer.Argument(help="A kind, part of a name, or a pattern such as 'lp*'.")] = "*",
    matrix: Annotated[bool, typer.Option("--matrix", help="Show which components go together, and why others do not.")] = False,
) -> None:
    """List methods, refiners, segmenters, image sets and so on.

    Examples:

      wsss-orch ls

      wsss-orch ls segmenter

      wsss-orch ls 'lp*'

      wsss-orch ls --matrix
    """
    if matrix:
        from orchestrator.reading.matrix_page import print_matrix

        print_matrix(terminal())
        return
    found, console = list[tuple[str, ...]](), terminal()
    recipes = [recipe for recipe in load_all().values() if recipe.kind in LISTED]
    for recipe in sorted(recipes, key=lambda recipe: (LISTED.index(recipe.kind), recipe.name)):
        for name in recipe.named:
            if recipe.kind == pattern or fnmatch(name, pattern if "*" in pattern else f"*{pattern}*"):
                found.append((name, recipe.kind, recipe.title, _published(recipe), recipe.code.get("licence", "")))
    if not found:
        raise WrongInput(f"nothing is called like {pattern!r}{nearest(pattern, load_all())}; `wsss-orch ls` lists everything")
    shown = fitting(("name", "kind", "what", *FURTHER), found, FURTHER, console.width)
    shown.columns[2].no_wrap = False  # the only column that may take two lines
    console.print(shown)


def show(name: Annotated[str, typer.Argument(help="A component, such as lpcam, or a variant, such as deeplabv2-small.")]) -> None:
    """Show a component: paper, stages, settings, published figures. The defaults of a variant are its own.

    Examples:

      wsss-orch show lpcam
    """
    (recipe, values), console = _shown(name), terminal()
    heading = (f"{name} ({recipe.kind}): {recipe.title}", recipe.paper, recipe.summary)
    for line in (*filter(None, heading), *map(_stage_line, recipe.stages), *_adds_lines(recipe)):
        console.print(line)
    if recipe.settings:
        console.print(_settings(recipe, values))
    for line in (*_entries(recipe), *_followers(recipe)):
        console.print(f"  {line}")
    if recipe.overrides:
        _print_overrides(console, recipe)
    for line in (*_defaults(recipe), *map(_figure, recipe.published)):
        console.print(f"  {line}")


def _settings(recipe: Recipe, values: Mapping[str, Any]) -> Table:
    """The settings of a component; `values` are a variant's own."""
    made = table("setting", "default", "allowed", "what", "source")
    for key, setting in recipe.settings.items():
        default = str(values.get(key, setting.default))
        made.add_row(f"{recipe.prefix}.{key}", default, _allowed(setting), setting.help, setting.source)
    return made


def _entries(recipe: Recipe) -> Iterator[str]:
    for entry, value in recipe.table.items():
        yield f"{entry}: {', '.join(f'{key} {number}' for key, number in value.items()) if isinstance(value, dict) else value}"


def _followers(recipe: Recipe) -> Iterator[str]:
    """The refiners and segmenters that follow a component or an image set unless others are named."""
    if recipe.segmenter:
        yield f"segmenter unless another is named: {recipe.segmenter}"
    for images, refiners in recipe.published_refiners.items():
        yield f"refiners on {images} unless others are named: {', '.join(refiners)}"
    for images, segmenter in recipe.published_segmenter.items():
        yield f"segmenter on {images} unless another is named: {segmenter}"


def _defaults(recipe: Recipe) -> Iterator[str]:
    """The defaults that depend on the image set and on other components, and those that it gives to others."""
    for images, values in recipe.published_settings.items():
        yield f"defaults on {images}: {_assigned(recipe.prefix, values)}"
    for other, values in recipe.companions.items():
        yield f"gives {other} the defaults {_assigned(other, values)}"
    for giver in load_all().values():
        if recipe.name in giver.companions:
            yield f"defaults with {giver.name}: {_assigned(recipe.name, giver.companions[recipe.name])}"


def _figure(figure: Published) -> str:
    behind = f" with {figure.with_}" if figure.with_ else ""
    return f"published: {figure.images} {figure.metric} {figure.value}{behind} ({figure.source})"


def _shown(name: str) -> tuple[Recipe, Mapping[str, Any]]:
    """The component called `name` and, if it is a variant, the variant's settings."""
    known = {own: (recipe, values) for recipe in load_all().values() for own, values in recipe.named.items()}
    if name not in known:
        holding = [recipe.name for recipe in load_all().values() if name in recipe.table]
        told = "".join(f"; it is an entry of {holder}: `wsss-orch show {holder}`" for holder in holding)
        raise WrongInput(f"there is no component {name!r}{told or nearest(name, known)}")
    return known[name]


def _print_overrides(console: Console, recipe: Recipe) -> None:
    """The values that a preset or an image set gives, beside the defaults that they replace."""
    settings = declared(recipe if recipe.kind == "images" else find("shapes", ("images",))[0])
    values = with_unnamed_methods(recipe.overrides)
    given = table("sets", "to", "default")
    for name, value in values.items():
        given.add_row(name, str(value), str(settings[name].default))
    console.print(given)
    if heirs := sorted({name.partition(".")[0] for name in values.keys() - recipe.overrides.keys()}):
        console.print(f"  {', '.join(heirs)}: not named in this {recipe.kind.rstrip('s')}, so {MODEL}'s values")


def _published(recipe: Recipe) -> str:
    first = {figure.metric: figure.value for figure in reversed(recipe.published) if _is_main(figure)}
    return ", ".join(f"{metric.partition('.')[0]} {value}" for metric, value in first.items())


def _assigned(owner: str, values: Mapping[str, Any]) -> str:
    return ", ".join(f"{owner}.{name}={value}" for name, value in values.items())


def _stage_line(stage: StageRecipe) -> str:
    if stage.use:
        return f"  stage {stage.use}, shared"
    return f"  stage {stage.name}: {stage.kind}, reads {', '.join(stage.reads) or 'images'}, writes {stage.writes or 'a score'}"


def _adds_lines(recipe: Recipe) -> list[str]:
    """What an add-on needs of the training that it adds to."""
    if not recipe.adds:
        return []
    needs = [f"a network with {', '.join(recipe.adds.requires)}"] * bool(recipe.adds.requires) + list(recipe.adds.reads)
    for capability, when in recipe.adds.requires_if.items():
        needs.append(f"{capability} if {', '.join(f'{name}={value}' for name, value in when.items())}")
    return [f"  adds to the training of the network before it{'; needs ' * bool(needs)}{' and '.join(needs)}"]


def _allowed(setting: Setting) -> str:
    if allowed(setting):
        return ", ".join(map(str, allowed(setting)))
    bounds = (("at least", setting.minimum), ("at most", setting.maximum))
    return ", ".join([*(f"{words} {bound:g}" for words, bound in bounds if bound is not None), *([AUTO] if setting.auto else [])])


def _is_main(figure: Published) -> bool:
    quantity, _, metric = figure.metric.partition("/")[0].partition(".")
    return figure.images == "voc12" and quantity in scores.quantities() and metric == scores.main(quantity)
