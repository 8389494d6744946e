"""Image sets of one class and of two: every table, page and file of their scores is whole and makes sense."""

import csv
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from orchestrator.pages.comparison_page import write_page
from orchestrator.pages.report import write_report
from orchestrator.reading.comparison import compare
from orchestrator.reading.formats import comma_separated, latex, markdown, terminal_table
from orchestrator.reading.groups import Runs
from orchestrator.reading.tables import group_table, result_table
from orchestrator.storage.store import Store
from tests.conftest import write_image_set
from tests.finished_run import finished_run

WIDTH = 100


def with_classes(root: Path, count: int) -> Path:
    """The image set of the tests with its first `count` classes alone; the other classes become the last of them."""
    write_image_set(root)
    classes = (root / "classes.txt").read_text().split()[:count]
    (root / "classes.txt").write_text("\n".join(classes) + "\n")
    for path in (root / "SegmentationClass").glob("*.png"):
        label = np.asarray(Image.open(path))
        Image.fromarray(np.where(label < 255, np.minimum(label, count), 255).astype(np.uint8)).save(path)
    (root / "image_labels.txt").unlink(missing_ok=True)
    return root


def printed(table: object) -> str:
    console = Console(width=WIDTH, file=io.StringIO(), soft_wrap=True)
    console.print(table)
    return console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize("count", [1, pytest.param(2, marks=pytest.mark.slow)])  # other tests have two classes too
def test_tables_pages_and_files_of_few_classes(tmp_path: Path, count: int) -> None:
    images, store = with_classes(tmp_path / "images", count), tmp_path / "store"
    asked = (("cam+irn", 0), ("cam+irn", 1), ("supervised", 0))
    runs = [finished_run(store, images, method, random_seed=seed) for method, seed in asked]
    prepared, results, _ = runs[0]
    assert len(results["classes"]) == count
    for row in results["rows"]:
        assert row["per_class"].keys() == {"background", *results["classes"]}
        metrics, of_classes = row["metrics"], [row["per_class"][name] for name in results["classes"]]
        assert metrics["f"] == pytest.approx(np.mean([scores["f"] for scores in of_classes]))
        assert metrics["precision"] == pytest.approx(np.mean([scores["precision"] for scores in of_classes]))
        of_all = [scores["iou"] for scores in row["per_class"].values()]
        assert metrics["miou"] == pytest.approx(np.mean(of_all)) and 0 < metrics["miou"] <= 1
    found = compare([Runs(store).group(run[1]["run"].rpartition("-")[0]) for run in (runs[0], runs[2])], Store(store))
    tables = [result_table(results, WIDTH), group_table(found.entries[0].group, WIDTH), terminal_table(found, WIDTH)]
    for shown in map(printed, tables):
        assert "mIoU" in shown and "nan" not in shown and "None" not in shown
        assert max(map(len, shown.splitlines())) <= WIDTH and "…" not in shown
    write_page(found, store, tmp_path / "compare.html")
    pages = [write_report(prepared, results, tmp_path), tmp_path / "compare.html"]
    for text in (re.sub("<script.*?</script>", "", page.read_text(), flags=re.DOTALL) for page in pages):
        assert "IoU of each class" in text and not re.search(r"\b(nan|None)\b", re.sub("<[^>]*>", " ", text))
    lines = list(csv.DictReader(io.StringIO(comma_separated(found))))
    assert {line["class"] for line in lines} == {"", "background", *results["classes"]}
    assert all(name in text for name in results["classes"] for text in (markdown(found), latex(found)))
