"""Evaluation: records that may be summed over images, and the result made of their sum."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from imagesets.item import Item
from maps.maps import Maps
from maps.reading import as_they_are
from methods import supervised
from metrics import contour, evaluation, region, sizes
from training.stage import Context, Settings

CLASSES = ("cat", "dog", "cow")
SETTINGS = Settings({"thresholds": [0.0, 0.6, 0.01], "miou": "union", "maps.seed_threshold": 0.215})


def images(folder: Path) -> tuple[list[Item], dict, dict]:
    """Three masked images, their maps and label maps; the last has no class."""
    rng, items, maps, labels = np.random.default_rng(0), [], {}, {}
    for name, classes in (("a", (0,)), ("b", (0, 2)), ("c", ())):
        truth = rng.choice(np.array([0, 255, *(index + 1 for index in classes)], np.uint8), (24, 32))
        Image.fromarray(truth).save(folder / f"{name}.png")
        items.append(Item(name, folder / f"{name}.png", classes, folder / f"{name}.png"))
        grids = (rng.random((len(classes), 6, 8), np.float32), rng.random((len(classes), 24, 32), np.float32))
        maps[name] = Maps(np.array(classes, np.int64), (24, 32), grids, read=as_they_are)
        labels[name] = {"label": rng.choice(np.array([0, 1, 3, 255], np.uint8), (24, 32))}
    return items, maps, labels


def context(settings: Settings, **inputs: dict) -> Context:
    return Context(settings, CLASSES, (), (), torch.device("cpu"), inputs)


def summed(one, items: list[Item]) -> dict[str, np.ndarray]:
    records = [one(item) for item in items]
    return {name: sum(record[name] for record in records) for name in ("confusion", "contour", "sizes", "one", "several")}


@pytest.mark.parametrize("convention", ["union", "truth", "all"])
def test_a_sample_of_the_images_scores_what_a_list_of_them_would(tmp_path, convention):
    items, maps, labels = images(tmp_path)
    settings = Settings({**SETTINGS.values, "miou": convention})
    scorings = (
        (evaluation.score_labels(context(settings, masks=labels)), evaluation.label_result),
        (evaluation.score_maps(context(settings, maps=maps)), evaluation.seed_result),
    )
    weights = np.array([[1, 1, 1], [2, 0, 1], [0, 3, 0], [0, 0, 3]])
    for one, result in scorings:
        sample = evaluation.resampled({"miou": convention}, CLASSES, [one(item) for item in items])
        for row, times in enumerate(weights):
            listed = [item for item, count in zip(items, times, strict=True) for _ in range(count)]
            expected = result(settings, CLASSES, summed(one, listed))["metrics"]
            found = {name: region.number(values[row]) for name, values in sample(weights).items()}
            assert found == pytest.approx(expected)


def _check_other_scores(result: dict, pairs: list[tuple[np.ndarray, np.ndarray]]) -> None:
    """The result's contour quality and IoU by size are those of the sums over the images."""
    contours, by_size = (sum(of(*pair, 3) for pair in pairs) for of in (contour.matches, sizes.by_size))
    found, f = result["metrics"], contour.f(contours)
    assert found["f"] == contour.mean_f(contours) and found["jf"] == (found["miou"] + found["f"]) / 2
    assert result["per_class"]["cat"]["f"] == f[0] > 0 and "f" not in result["per_class"]["background"]
    expected = {name: region.number(value) for name, value in sizes.means(by_size).items()}
    assert {name: found[name] for name in expected} == expected
    assert result["objects"] == dict(zip(sizes.SIZES, by_size[..., 3].sum(0), strict=True))


def test_a_seed_result_has_the_fixed_threshold_the_curve_and_the_oracle(tmp_path):
    items, maps, _ = images(tmp_path)
    arrays = summed(evaluation.score_maps(context(SETTINGS, maps=maps)), items)
    result = evaluation.seed_result(SETTINGS, CLASSES, arrays)
    plain, pairs = 0, []
    for item in items:
        full = maps[item.id].full().numpy()
        stack = np.pad(full, ((1, 0), (0, 0), (0, 0)), constant_values=0.215)
        prediction = np.array([0, *(index + 1 for index in item.labels)], np.uint8)[stack.argmax(0)]
        pairs.append((item.truth(), prediction))
        plain += region.confusion(item.truth(), prediction, 4)
    assert result["metrics"]["miou"] == region.miou(plain)
    assert result["per_class"]["dog"]["iou"] is None
    assert result["protocol"]["threshold"] == 0.215 and result["pixels"] == plain.sum()
    _check_other_scores(result, pairs)
    assert len(result["curve"]["threshold"]) == 61  # 60 of the grid and the fixed one
    assert result["oracle"]["miou"] == max(result["curve"]["miou"]) >= result["metrics"]["miou"]
    json.dumps(result, allow_nan=False)


def test_seeds_with_a_background_map_of_their_own_are_scored_with_it(tmp_path):
    items, maps, _ = images(tmp_path)
    item, planes = items[0], np.random.default_rng(1).random((2, 24, 32), np.float32)  # background first
    own = {item.id: replace(maps[item.id], grids=(planes,))}
    found = evaluation.score_maps(context(SETTINGS, maps=own))(item)["confusion"]
    expected = region.confusion(item.truth(), planes.argmax(0).astype(np.uint8), 4)
    assert (found == expected).all()
    without = Settings({**SETTINGS.values, "maps.seed_threshold": None})
    arrays = summed(evaluation.score_maps(context(without, maps=own)), items[:1])
    result = evaluation.seed_result(without, CLASSES, arrays)
    assert result["metrics"]["miou"] == region.miou(expected)
    assert "threshold" not in result["protocol"] and not {"curve", "oracle"} & result.keys()
    with pytest.raises(ValueError, match="have no background of their own"):
        evaluation.score_maps(context(without, maps=maps))(item)


@pytest.mark.parametrize("word", ["masks", "predictions"])
def test_label_maps_are_scored_whatever_word_they_come_from(tmp_path, word):
    items, _, labels = images(tmp_path)
    arrays = summed(evaluation.score_labels(context(SETTINGS, **{word: labels})), items)
    result = evaluation.label_result(SETTINGS, CLASSES, arrays)
    plain = sum(
        region.confusion(item.truth(), np.where(labels[item.id]["label"] == 255, 0, labels[item.id]["label"]), 4)
        for item in items
    )
    assert result["metrics"]["miou"] == region.miou(plain)
    _check_other_scores(result, [(item.truth(), labels[item.id]["label"]) for item in items])
    json.dumps(result, allow_nan=False)


def test_images_with_one_label_and_with_several_are_scored_apart_and_those_without_labels_are_in_neither(tmp_path):
    items, maps, labels = images(tmp_path)
    scorings = (
        (evaluation.score_labels(context(SETTINGS, masks=labels)), evaluation.label_result),
        (evaluation.score_maps(context(SETTINGS, maps=maps)), evaluation.seed_result),
    )
    for one, result in scorings:
        found = result(SETTINGS, CLASSES, summed(one, items))["by_labels"]
        for name, own in {"one": items[:1], "several": items[1:2]}.items():
            whole = result(SETTINGS, CLASSES, summed(one, own))["metrics"]
            assert found[name] == {metric: whole[metric] for metric in region.means(np.eye(4))}


def test_official_masks_score_1(tmp_path):
    items, _, _ = images(tmp_path)
    masks = {item.id: supervised.masks(context(SETTINGS))(item) for item in items}
    arrays = summed(evaluation.score_labels(context(SETTINGS, masks=masks)), items)
    assert evaluation.label_result(SETTINGS, CLASSES, arrays)["metrics"]["miou"] == 1


def test_a_fixed_threshold_of_the_grid_is_not_counted_twice():
    grid = evaluation.threshold_grid(Settings({"thresholds": [0.0, 0.6, 0.01], "maps.seed_threshold": 0.35}))
    assert len(grid) == 60 and grid[35] == 0.35 and grid[-1] == 0.59  # 35 * 0.01 is 0.35000000000000003


def test_a_step_beyond_the_end_leaves_the_start_and_the_fixed_threshold():
    grid = evaluation.threshold_grid(Settings({"thresholds": [0.0, 0.5, 0.6], "maps.seed_threshold": 0.15}))
    assert grid.tolist() == [0, 0.15]
