"""A file of settings with comments, for `--recipe`: those of the preset laptop that a first run uses, each with its meaning."""

from collections.abc import Iterator
from typing import Any

import yaml

from orchestrator.planning.recipes import find, load_all

OWNERS = ("backbone", "cam", "irn", "upernet", "training", "extraction")
ALSO = ("backbone.weights", "upernet.weights")  # what people without a network have to set
HEAD = """# Settings of a run, for --recipe: "component.setting: value". These are those of the preset laptop, for machines
# without a GPU.
# A setting whose line you delete has the default of its paper.
# `wsss-orch show NAME` lists all settings of a component, with their bounds and sources.
"""


def commented_settings() -> str:
    """The text of the file."""
    return HEAD + "".join(f"{line}\n" for owner in OWNERS for line in _lines(owner))


def _lines(owner: str) -> Iterator[str]:
    recipe, preset = load_all()[owner], find("laptop", ("preset",))[0].overrides
    yield ""
    yield f"# {recipe.title} (wsss-orch show {owner})"
    for name, setting in recipe.settings.items():
        full = f"{owner}.{name}"
        if full in preset or full in ALSO:
            yield f"{full}: {_written(preset.get(full, setting.default))} # {' '.join(setting.help.split())}"


def _written(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=1 << 20).removesuffix("...\n").strip()
