"""The recipes have the published numbers, which `published_defaults.yaml` lists a second time with their sources."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.planning.recipes import load_all

TABLE = yaml.safe_load((Path(__file__).parent / "published_defaults.yaml").read_text())
COCO, CRF_SETS = TABLE.pop("coco14"), TABLE.pop("crf_sets")
KERNELS = ("iterations", "gaussian_sxy", "gaussian_weight", "bilateral_sxy", "bilateral_srgb", "bilateral_weight")


def numeric(values: dict[str, Any]) -> dict[str, Any]:
    """The values that are numbers or lists of numbers."""
    return {name: value for name, value in values.items() if is_number(value[0] if isinstance(value, list) else value)}


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def values(rows: dict[str, list]) -> dict[str, Any]:
    return {name: value for name, (value, _) in rows.items()}


@pytest.mark.parametrize("name", TABLE)
def test_every_numeric_default_is_the_published_one(name: str) -> None:
    assert numeric({name: setting.default for name, setting in load_all()[name].settings.items()}) == values(TABLE[name])


def test_what_the_papers_change_for_coco_is_published() -> None:
    found = {name: numeric(load_all()[name].published_settings.get("coco14", {})) for name in TABLE}
    assert {name: rows for name, rows in found.items() if rows} == {name: values(rows) for name, rows in COCO.items()}


def test_the_crf_sets_are_the_published_ones() -> None:
    found = {name: [entry[part] for part in KERNELS] for name, entry in load_all()["crf"].table.items()}
    assert found == values(CRF_SETS)


def test_every_number_of_the_table_names_its_source() -> None:
    rows = [row for part in (*TABLE.values(), *COCO.values(), CRF_SETS) for row in part.values()]
    assert all(isinstance(source, str) and len(source) > 3 for _, source in rows)
