"""Every segmentation of the CAM family that the papers score can be planned by one command, with their figure beside it."""

from pathlib import Path

import pytest
import yaml

from orchestrator.planning.experiment import Request, experiment
from orchestrator.planning.published import published
from orchestrator.planning.recipes import load_all
from orchestrator.planning.stage import Stage

TABLES = yaml.safe_load((Path(__file__).parent / "published_segmentations.yaml").read_text())
ROWS = [
    pytest.param(table["images"], method, segmenter, value, id=f"{table['images']} {method} {segmenter}")
    for table in TABLES
    for segmenter, methods in table["rows"].items()
    for method, value in methods.items()
    if table["images"] in load_all()
]


def behind(stage: Stage) -> set[str]:
    """The components that a stage and all that it is made from belong to."""
    return stage.components.union(*map(behind, stage.inputs.values()))


@pytest.mark.parametrize(("images", "method", "segmenter", "value"), ROWS)
def test_a_published_segmentation_plans_and_its_figure_is_found(images: str, method: str, segmenter: str, value: float) -> None:
    stages = experiment(Request(method, f"{images}:x", segmenter)).stages
    (scored,) = (stage for stage in stages if stage.scores == "seg")
    figure = published(images, "seg.miou/val", behind(scored), segmenter)
    assert figure is not None and figure.value == value
