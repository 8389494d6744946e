"""A file of settings with comments, for `--recipe`: those of the preset laptop, each with its meaning."""

from collections.abc import Iterator, Mapping
from typing import Any

from orchestrator.planning.recipes import find, load_all
from orchestrator.planning.values import as_text

FIRST = ("backbone", "training", "extraction", "cam", "irn", "upernet")  # what a first run uses
ALSO = ("backbone.weights", "upernet.weights")  # what people without a network have to set
HEAD = """# Settings of a run, for --recipe: "component.setting: value". These are those of the preset laptop, for machines
# without a GPU.
# A setting whose line you delete has the default of its paper.
# `wsss-orch show NAME` lists all settings of a component, with their bounds and sources.
"""


def commented_settings() -> str:
    """The text of the file."""
    preset = find("laptop", ("preset",))[0].overrides
    owners = dict.fromkeys((*FIRST, *sorted(name.partition(".")[0] for name in preset)))
    return HEAD + "".join(f"{line}\n" for owner in owners for line in _lines(owner, preset))


def _lines(owner: str, preset: Mapping[str, Any]) -> Iterator[str]:
    recipe = load_all()[owner]
    yield ""
    yield f"# {recipe.title} (wsss-orch show {owner})"
    for name, setting in recipe.settings.items():
        full = f"{owner}.{name}"
        if full in preset or full in ALSO:
            yield f"{full}: {as_text(preset.get(full, setting.default))} # {' '.join(setting.help.split())}"
