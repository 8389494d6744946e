"""The settings that a run's components own or receive, out of the table of all settings that exist."""

from collections.abc import Iterable, Mapping
from typing import Any

from orchestrator.planning import scores
from orchestrator.planning.recipes import load_all


def used_settings(settings: Mapping[str, Any], components: Iterable[str]) -> dict[str, Any]:
    """Those of `settings` ("owner.name" -> value) whose owner is the image set, one of `components` or what their stages list."""
    owners = {"images"}.union(*(_owners(name) for name in {*components, *(recipe.name for recipe in scores.recipes())}))
    return {name: value for name, value in settings.items() if name.partition(".")[0] in owners}


def _owners(component: str) -> set[str]:
    """A component, the owners of the shared stages it uses, and the prefixes that all these stages list."""
    known = load_all()
    owners, stages = {component}, []
    for stage in known[component].stages:
        owner, _, shared = stage.use.partition(".")
        if owner:
            owners.add(owner)
            stages += [part for part in known[owner].shared_stages if part.name == shared]
        else:
            stages.append(stage)
    return owners | {listed.partition(".")[0] for stage in stages for listed in stage.settings if "." in listed}
