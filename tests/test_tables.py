"""The papers' tables: every row plans, rows share stages, what cannot run is marked, ours stands beside the published values."""

import time
from pathlib import Path

import pytest

from imagesets.coco_preparation import prepare_coco14
from imagesets.voc12 import CLASSES as VOC_CLASSES
from orchestrator.planning.images import open_images
from orchestrator.planning.launch import Experiment, planner
from orchestrator.planning.plan import Planner
from orchestrator.planning.refusals import refuse_run
from orchestrator.tables.asked import Asked, experiments, plan_rows
from orchestrator.tables.catalogue import load_tables
from tests.coco_images import write_coco
from tests.conftest import write_image_set

IMAGES = 64  # of each list: as many as the largest batch


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Tiny image sets of the kinds that the papers have."""
    root = tmp_path_factory.mktemp("tables")
    voc = write_image_set(root / "VOC2012", train=IMAGES)
    labels = (voc / "image_labels.txt").read_text()
    (voc / "image_labels.txt").write_text(labels.replace("disc", VOC_CLASSES[0]).replace("bar", VOC_CLASSES[1]))
    lists = voc / "ImageSets/Segmentation"
    (lists / "train_aug.txt").write_text((lists / "train.txt").read_text())
    coco = write_coco(root / "coco", train=IMAGES, val=IMAGES)
    prepare_coco14(str(coco), {"rule": "recam"})
    return {"voc12": f"voc12:{voc}", "coco14": f"coco14:{coco}"}


def test_every_row_plans(sets: dict[str, str], tmp_path: Path) -> None:
    planners: dict[str, Planner] = {}
    began, count = time.perf_counter(), 0
    for table in load_tables().values():
        asked = Asked(table, sets[table.images], tmp_path / "store", assignments=("images.saliency=contrast",), room=1)
        wanted = experiments(asked) if any(row.expression for row in table.rows) else {}
        able = [one for one in wanted.values() if isinstance(one, Experiment)]
        if not able:
            continue
        if table.images not in planners:
            opened = open_images(asked.images, able[0].settings, asked.store, make=False)
            assert opened is not None
            planners[table.images] = planner(able[0], opened)
        for row in plan_rows(asked, wanted, planners[table.images]):
            assert not row.refusal, row.refusal
            for run in row.runs:
                refuse_run(run)
                count += 1
    print(count, time.perf_counter() - began)
