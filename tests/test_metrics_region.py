"""Region scores against eight public evaluation scripts, and what must hold of any of them."""

from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays

from imagesets.errors import WrongInput
from metrics import region, thresholds

GOLDEN = Path(__file__).parent / "golden"
SETS = ["A_all21_void", "B_absent", "C_perfect", "D_coco81"]

label_maps = arrays(np.uint8, (6, 7), elements=st.integers(0, 4))
matrices = arrays(np.int64, (4, 4), elements=st.integers(0, 1000))


def loaded(name: str) -> tuple[dict[str, np.ndarray], np.ndarray]:
    golden = dict(np.load(GOLDEN / f"metrics_{name}.npz"))
    classes = int(golden["num_classes"])
    pairs = [(golden[f"gt{index}"], golden[f"pred{index}"]) for index in range(int(golden["num_images"]))]
    return golden, np.sum([region.confusion(truth, prediction, classes) for truth, prediction in pairs], axis=0)


@pytest.mark.parametrize("name", SETS)
def test_the_matrix_is_that_of_every_public_script(name):
    golden, matrix = loaded(name)
    assert np.array_equal(matrix, golden["kazuto.confusion"])
    side = len(golden["recam_eval.confusion"])  # sized to the largest label seen
    assert np.array_equal(matrix[:side, :side], golden["recam_eval.confusion"])


@pytest.mark.parametrize("name", SETS)
def test_scores_are_those_of_the_public_scripts(name):
    golden, matrix = loaded(name)
    side = len(golden["recam_eval.iou"])
    expected = {
        "mmseg.iou": region.iou(matrix),
        "kazuto.class_iou": region.iou(matrix),
        "recam_eval.iou": region.iou(matrix)[:side],
        "mmseg.dice": 2 * region.iou(matrix) / (1 + region.iou(matrix)),
        "jfzhang.pixel_acc": region.pixel_accuracy(matrix),
        "jfzhang.mean_acc": region.mean_accuracy(matrix),
        "jfzhang.miou": region.miou(matrix),
        "jfzhang.fwiou": region.frequency_weighted_iou(matrix),
        "recam_eval.miou": region.miou(matrix),
        "recurseed.miou_pct": 100 * region.miou(matrix),
        "mmseg.miou": region.miou(matrix, "union"),
        "kazuto.miou": region.miou(matrix, "truth"),
        "hfpl_final.miou_pct": 100 * region.miou(matrix, "all"),
        "mmseg.all_acc": region.pixel_accuracy(matrix),
        "kazuto.pixel_acc": region.pixel_accuracy(matrix),
        "kazuto.mean_acc": region.mean_accuracy(matrix),
        "mmseg.acc": region.recall(matrix),
        "kazuto.fwiou": region.frequency_weighted_iou(matrix),
        "recam_eval.fp": region.false_positives(matrix)[:side],
        "recam_eval.fn": region.false_negatives(matrix)[:side],
        "recurseed.fp_fg_nanmean": region.foreground_mean(region.false_positives(matrix)),
        "recurseed.fn_fg_nanmean": region.foreground_mean(region.false_negatives(matrix)),
    }
    for key, value in expected.items():
        tolerance = 1e-5 if "hfpl" in key else 2e-6 if "recurseed" in key else 1e-9
        np.testing.assert_allclose(value, golden[key], rtol=tolerance, err_msg=key)
    absent_is_0 = {
        "hfpl_final.class_iou_pct": 100 * region.iou(matrix),
        "hfpl_cam_png.class_iou_pct": 100 * region.iou(matrix),
        "hfpl_cam_png.miou_pct": 100 * region.miou(matrix, "all"),
        "visinf_train.iou": region.iou(matrix),
        "visinf_train.precision": region.precision(matrix),
        "visinf_train.recall": region.recall(matrix),
        "visinf_eval.iou_pct": 100 * region.iou(matrix),
        "visinf_eval.precision_pct": 100 * region.precision(matrix),
        "visinf_eval.recall_pct": 100 * region.recall(matrix),
        "visinf_eval.miou_all_pct": 100 * region.miou(matrix, "all"),
        "visinf_eval.miou_fg_pct": 100 * np.nan_to_num(region.iou(matrix))[1:].mean(),
    }
    for key, value in absent_is_0.items():
        if key in golden:
            tolerance = 1e-5 if "hfpl" in key else 1e-9
            np.testing.assert_allclose(np.nan_to_num(value), golden[key], rtol=tolerance, atol=1e-12, err_msg=key)
    correct = np.diag(matrix)
    counts = np.stack([correct, matrix.sum(1) - correct, matrix.sum(0) - correct], axis=1)
    np.testing.assert_allclose(counts, golden["visinf_eval.tp_fn_fp"], rtol=1e-9)


def test_the_three_conventions_differ_where_classes_are_absent():
    _, matrix = loaded("B_absent")
    rounded = [round(100 * float(region.miou(matrix, convention)), 1) for convention in ("truth", "union", "all")]
    assert rounded == [58.8, 44.1, 16.8]


def test_pseudo_masks_are_scored_as_irn_does():
    golden = np.load(GOLDEN / "miou.npz")
    matrix = region.confusion(golden["gt"], golden["png_pred"], 21)
    assert np.array_equal(matrix, golden["png_confusion"])
    np.testing.assert_allclose(region.iou(matrix), golden["png_iou"], atol=1e-6)
    np.testing.assert_allclose(region.miou(matrix), golden["png_miou"], atol=1e-6)
    background = [region.false_positives(matrix)[0], region.false_negatives(matrix)[0]]
    np.testing.assert_allclose(background, golden["png_bg_fp_fn"], atol=1e-6)


def test_rates_of_the_recurseed_lpcam_and_eps_scripts():
    golden = np.load(GOLDEN / "metrics_seg.npz")
    matrix = sum(region.confusion(*pair, len(golden["P"])) for pair in zip(golden["gt"], golden["pred"], strict=True))
    assert np.array_equal(matrix, golden["confusion"])
    for counts, name in ((matrix.sum(0), "P"), (matrix.sum(1), "T"), (np.diag(matrix), "TP")):
        assert np.array_equal(counts, golden[name])
    present, wrong = matrix.sum(0) + matrix.sum(1) > 0, matrix - np.diag(np.diag(matrix))
    union = matrix.sum(0) + matrix.sum(1) - np.diag(matrix)
    fp, fn = region.false_positives(matrix), region.false_negatives(matrix)
    expected = {
        "rsepm_iou_percent": 100 * region.iou(matrix),
        "lpcam_iou": region.iou(matrix),
        "lpcam_fp": fp,
        "lpcam_fn": fn,
        "rsepm_mIoU_FP_FN": [100 * region.miou(matrix), region.foreground_mean(fp), region.foreground_mean(fn)],
        "lpcam_nanmean_fp_fn": [region.foreground_mean(fp), region.foreground_mean(fn)],
        "eps_precision": region.precision(matrix),
        "eps_recall": region.recall(matrix),
        "eps_mean_prec_recall_miou": [
            *(region.mean_present(score(matrix)) for score in (region.precision, region.recall, region.iou)),
        ],
        "eps_pixel_acc": [region.pixel_accuracy(matrix)],
        "lpcam_bg_fraction_among_predicted_fg": [matrix[0, 1:].sum() / matrix[:, 1:].sum()],
        # its plain means are undefined, because class 6 occurs nowhere; its mIoU leaves that class out
        "lpcam_mean_fp_fn_miou": [fp[1:].mean(), fn[1:].mean(), region.miou(matrix)],
    }
    for name, values in expected.items():
        np.testing.assert_allclose(values, golden[name], atol=1e-4 if "percent" in name or "mIoU" in name else 1e-6, err_msg=name)
    split = wrong[0] / np.where(present, union, np.nan), wrong[1:].sum(0) / np.where(present, union, np.nan)
    for part, name in zip(split, ("fp_bg", "fp_fg"), strict=True):
        np.testing.assert_allclose(part[1:], golden[name][1:], atol=1e-6, err_msg=name)


def test_a_sweep_of_thresholds_is_that_of_the_recurseed_script():
    golden = np.load(GOLDEN / "metrics_seg.npz")
    grid, keys = golden["sweep_thresholds"], np.arange(golden["cam"].shape[1])
    matrices = sum(
        thresholds.sweep(cam, keys, truth, grid, len(keys)) for cam, truth in zip(golden["cam"], golden["gt"], strict=True)
    )
    found = {
        "mIoU": 100 * region.miou(matrices),
        "FP": region.foreground_mean(region.false_positives(matrices)),
        "FN": region.foreground_mean(region.false_negatives(matrices)),
    }
    for name, values in found.items():
        np.testing.assert_allclose(values, golden[f"sweep_nolabel_{name}"], atol=1e-4 if name == "mIoU" else 1e-6)
    best = thresholds.best(thresholds.curve(matrices, grid))
    place = int(np.flatnonzero(grid == best["threshold"])[0])
    np.testing.assert_allclose(
        [best["threshold"], *(found[name][place] for name in found)], golden["sweep_nolabel_best"], atol=1e-4
    )


def test_its_sweep_on_training_images_leaves_out_the_classes_that_an_image_is_not_labelled_with():
    golden = np.load(GOLDEN / "metrics_seg.npz")
    keys = np.arange(golden["cam"].shape[1])
    totals = np.zeros((3, len(golden["sweep_thresholds"]), 1 + len(keys)))
    for cam, truth, labels in zip(golden["cam"], golden["gt"], golden["image_label"], strict=True):
        matrices = thresholds.sweep(cam, keys, truth, golden["sweep_thresholds"], len(keys))
        counts = np.stack([np.diagonal(matrices, axis1=1, axis2=2), matrices.sum(2), matrices.sum(1)])
        totals += counts * np.append(1, labels)
    right, true, predicted = totals
    union = np.where(true + predicted > 0, true + predicted - right, np.nan)
    found = {
        "mIoU": 100 * region.mean_present(right / union),
        "FP": region.foreground_mean((predicted - right) / union),
        "FN": region.foreground_mean((true - right) / union),
    }
    for name, values in found.items():
        np.testing.assert_allclose(values, golden[f"sweep_label_{name}"], atol=1e-4 if name == "mIoU" else 1e-6)
    place = int(np.nanargmax(found["mIoU"]))
    best = [golden["sweep_thresholds"][place], *(values[place] for values in found.values())]
    np.testing.assert_allclose(best, golden["sweep_label_best"], atol=1e-4)


@given(label_maps)
def test_the_truth_scores_1_against_itself(truth):
    matrix = region.confusion(truth, truth, 5)
    assert region.miou(matrix) == region.miou(matrix, "truth") == region.pixel_accuracy(matrix) == 1


@given(label_maps, label_maps)
def test_the_matrix_counts_every_pixel_once_and_transposes_with_its_arguments(truth, prediction):
    matrix = region.confusion(truth, prediction, 5)
    assert matrix.sum() == truth.size
    assert np.array_equal(matrix, region.confusion(prediction, truth, 5).T)
    plain = [[np.sum((truth == row) & (prediction == column)) for column in range(5)] for row in range(5)]
    assert np.array_equal(matrix, plain)


@given(matrices)
def test_iou_false_positives_and_false_negatives_share_the_union(matrix):
    total = region.iou(matrix) + region.false_positives(matrix) + region.false_negatives(matrix)
    np.testing.assert_allclose(total[~np.isnan(total)], 1)
    assert np.array_equal(np.isnan(total), (matrix.sum(0) + matrix.sum(1)) == 0)


@given(arrays(np.int64, (3, 4, 4), elements=st.integers(0, 50)))
def test_a_stack_of_matrices_scores_as_each_of_them(stack):
    for convention in ("union", "truth", "all"):
        for name, values in region.means(stack, convention).items():
            np.testing.assert_array_equal(values, [region.means(matrix, convention)[name] for matrix in stack])
    for name, values in region.error_shares(stack).items():
        np.testing.assert_array_equal(values, [region.error_shares(matrix)[name] for matrix in stack])


def test_void_is_not_counted_in_the_truth_and_is_background_in_a_prediction():
    truth, prediction = np.array([[0, 1, 255]], np.uint8), np.array([[255, 255, 1]], np.uint8)
    assert region.confusion(truth, prediction, 2).tolist() == [[1, 0], [1, 0]]


def test_labels_out_of_range_and_sizes_that_differ_are_refused():
    good, high = np.zeros((2, 3), np.uint8), np.full((2, 3), 7, np.uint8)
    with pytest.raises(WrongInput, match="prediction holds label 7; there are 5 labels"):
        region.confusion(good, high, 5)
    with pytest.raises(WrongInput, match="mask holds label 7"):
        region.confusion(high, good, 5)
    with pytest.raises(WrongInput, match="size"):
        region.confusion(good, good[:1], 5)
    with pytest.raises(WrongInput, match="uint8"):
        region.confusion(good.astype(np.int64), good, 5)


def test_a_summary_names_classes_and_has_no_nan():
    matrix = np.zeros((3, 3), np.int64)
    matrix[0, 0], matrix[1, 1], matrix[1, 0] = 6, 1, 1
    found = region.summary(matrix, ["cat", "dog"])
    assert found["per_class"]["dog"] == dict.fromkeys(["iou", "precision", "recall", "fp", "fn"])
    assert found["per_class"]["cat"] == {"iou": 0.5, "precision": 1.0, "recall": 0.5, "fp": 0.0, "fn": 0.5}
    assert found["metrics"]["miou"] == (6 / 7 + 0.5) / 2
    assert found["metrics"]["recall"] == 0.5
    empty = region.summary(np.zeros((3, 3), np.int64), ["cat", "dog"])
    assert set(empty["metrics"].values()) == {None}


@given(matrices)
def test_error_shares_partition_the_foreground(matrix):
    shares = region.error_shares(matrix)
    foreground = matrix.sum() - matrix[0, 0]
    if foreground:
        np.testing.assert_allclose(sum(shares.values()), 1)
        np.testing.assert_allclose(shares["tp"] * foreground, np.trace(matrix[1:, 1:]))
        np.testing.assert_allclose(shares["fn"] * foreground, matrix[1:, 0].sum())
        np.testing.assert_allclose(shares["fp_background"] * foreground, matrix[0, 1:].sum())
    else:
        assert all(np.isnan(share) for share in shares.values())
