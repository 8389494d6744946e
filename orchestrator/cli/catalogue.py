"""`wsss-orch ls` and `wsss-orch show`: what there is, read from the recipes alone."""

from fnmatch import fnmatch
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from imagesets.errors import WrongInput
from orchestrator.launch import catalogue
from orchestrator.nearest import nearest


def ls(pattern: Annotated[str, typer.Argument(help="Part of a name, or a pattern such as 'lp*'.")] = "*") -> None:
    """List methods, refiners, segmenters and image sets.

    Examples:

      wsss-orch ls

      wsss-orch ls 'lp*'
    """
    table = Table()
    for name in ("name", "kind", "what", "published (%)", "public code's licence"):
        table.add_column(name, overflow="fold")
    for recipe in catalogue():
        if fnmatch(recipe.name, pattern if "*" in pattern else f"*{pattern}*"):
            figures = "; ".join(f"{figure.images} {figure.metric} {figure.value}" for figure in recipe.published[:2])
            names = ", ".join([recipe.name, *(f"{recipe.name}-{variant}" for variant in recipe.variants)])
            table.add_row(names, recipe.kind, recipe.title, figures, recipe.code.get("licence", ""))
    Console().print(table)


def show(name: Annotated[str, typer.Argument(help="A component, such as lpcam.")]) -> None:
    """Show a component: paper, stages, settings with defaults and bounds, published figures.

    Examples:

      wsss-orch show lpcam
    """
    known = {recipe.name: recipe for recipe in catalogue()}
    if name not in known:
        raise WrongInput(f"there is no component {name!r}{nearest(name, known)}")
    recipe, console = known[name], Console(soft_wrap=True)
    prefix = "images" if recipe.kind == "images" else recipe.name
    for line in (f"{recipe.name} ({recipe.kind}): {recipe.title}", recipe.paper, recipe.summary):
        if line:
            console.print(line, markup=False, highlight=False)
    for stage in recipe.stages:
        what = (
            f"uses {stage.use}"
            if stage.use
            else f"{stage.kind}, reads {', '.join(stage.reads) or 'images'}, writes {stage.writes}"
        )
        console.print(f"  stage {stage.name or stage.use}: {what}", markup=False, highlight=False)
    table = Table()
    for column in ("setting", "default", "allowed", "what", "source"):
        table.add_column(column, overflow="fold")
    for key, setting in recipe.settings.items():
        bounds = [f">= {setting.minimum}"] * (setting.minimum is not None) + [f"<= {setting.maximum}"] * (
            setting.maximum is not None
        )
        allowed = ", ".join(map(str, setting.choices)) if setting.choices else " and ".join(bounds)
        table.add_row(f"{prefix}.{key}", str(setting.default), allowed, setting.help, setting.source)
    if recipe.settings:
        console.print(table)
    for figure in recipe.published:
        console.print(f"  published: {figure.images} {figure.metric} {figure.value} ({figure.source})", highlight=False)
