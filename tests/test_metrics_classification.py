"""Multi-label F1 of networks against RecurSeed's public evaluator, and when it is made."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from imagesets.errors import WrongInput
from imagesets.item import Item
from metrics import classification
from orchestrator.planning.experiment import Request, experiment
from training.stage import Context, Settings

GOLDEN = Path(__file__).parent / "golden" / "metrics_f1.npz"
SETTINGS = Settings({"evaluation.miou": "all"})


def counts(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    told, weights = classification.reached(scores), np.ones((1, len(labels)), np.int64)
    return classification.counts_of(told, labels.astype(bool), weights)[0]


def test_f1_precision_and_recall_are_those_of_the_public_evaluator():
    golden = np.load(GOLDEN)
    found = counts(golden["score"], golden["label"])
    np.testing.assert_array_equal(classification.GRID, golden["thresholds"])
    precision, recall = classification.macro(found, "all")
    curves = {"precision": precision, "recall": recall, "f1": classification.f1(precision, recall)}
    for name, values in curves.items():
        np.testing.assert_allclose(100 * values, golden[f"class_{name}"], atol=1e-3)
    metrics = classification.means(found, "all")
    best = [100 * metrics[name] for name in ("label_precision", "label_recall", "f1")]
    threshold = classification.result(SETTINGS, tuple("abcdef"), {"counts": found})["best_threshold"]
    np.testing.assert_allclose([threshold, *best], golden["best"], atol=1e-3)
    assert metrics["f1_fixed"] == classification.f1(precision, recall)[9]


def test_a_probability_at_a_threshold_reaches_it():
    assert classification.reached(np.array([0.04, 0.05, 0.5, 0.949, 0.95, 1.0])).tolist() == [0, 1, 10, 18, 19, 19]


def test_a_class_that_no_image_shows_counts_as_the_convention_says():
    labels = np.array([[1, 0, 0], [1, 0, 0]])
    found = counts(np.array([[0.9, 0.9, 0.0], [0.9, 0.0, 0.0]]), labels)
    macro = {name: [values[9] for values in classification.macro(found, name)] for name in ("union", "truth", "all")}
    assert macro["union"] == [0.5, 0.5] and macro["truth"] == [1, 1] and macro["all"] == pytest.approx([1 / 3, 1 / 3])
    nothing = counts(np.zeros((2, 3)), np.zeros((2, 3)))
    assert classification.means(nothing)["f1"] == 0


class Fixed(torch.nn.Module):
    """Logits of the mean colour of an image."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean(dim=(2, 3))[:, :2]


def test_one_pass_of_the_whole_image_is_scored_and_a_sample_scores_as_its_list(tmp_path):
    items = []
    for name, colour, labels in (("a", (255, 0, 0), (0,)), ("b", (0, 255, 0), (1,)), ("c", (255, 255, 0), ())):
        Image.new("RGB", (20, 30), colour).save(tmp_path / f"{name}.png")
        items.append(Item(name, tmp_path / f"{name}.png", labels))
    one = classification.score_network(Context(SETTINGS, ("x", "y"), (), (), torch.device("cpu"), {"network": Fixed()}))
    records = [one(item) for item in items]
    found = classification.result(SETTINGS, ("x", "y"), {"counts": sum(record["counts"] for record in records)})
    # c is told to show both classes: precision 1/2, recall 1
    assert found["metrics"]["f1"] == pytest.approx(2 / 3) and found["per_class"]["x"]["label_recall"] == 1
    sample = classification.resampled(found["protocol"], ("x", "y"), records)
    assert sample(np.array([[1, 1, 1], [2, 2, 0]]))["f1"] == pytest.approx([2 / 3, 1])


def scored(method: str, *assignments: str) -> list[tuple[str, str]]:
    stages = experiment(Request(method, assignments=assignments)).stages
    return [(stage.name, stage.list_name) for stage in stages if stage.scores == "classification"]


def test_it_is_made_only_where_a_list_is_named_of_every_network_that_classifies():
    assert scored("recam+irn") == []
    asked = scored("recam+irn", "images.classification=val")
    assert asked == [(f"{name}-network-multilabel-classification-score", "val") for name in ("cam", "recam")]
    assert [name for name, _ in scored("lpcam+amn", "images.classification=train")] == [asked[0][0]]


def test_where_no_network_classifies_it_is_refused():
    with pytest.raises(WrongInput, match=r"images\.classification=train is idle: no network of this run classifies images"):
        scored("supervised", "images.classification=train")
