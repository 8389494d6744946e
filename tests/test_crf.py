"""Dense CRF and confident labels."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from imagesets.errors import WrongInput
from imagesets.item import Item
from maps.labelling import winners
from maps.maps import Maps
from maps.reading import as_they_are
from orchestrator.planning.recipes import load_all
from refiners import crf
from tests.two_colours import context, write_items

GOLDEN = Path(__file__).parent / "golden"
SETS = load_all()["crf"].table
IRN = crf.Parameters(**SETS["irn-labels"])
PUBLISHED = {  # iterations; Gaussian sxy, weight; bilateral sxy, srgb, weight
    # jiwoon-ahn/irn, misc/imutils.py; the labels of AdvCAM, AMN, ReCAM, LPCAM, SIPE and CDA
    "irn-labels": (10, 3, 3, 50, 5, 10),
    # kazuto1011/deeplab-pytorch, configs/voc12.yaml; RecurSeed and EdgePredictMix
    "deeplab": (10, 1, 3, 67, 3, 4),
    # jiwoon-ahn/psa, tool/imutils.py; SEAM, PMM's and MCTformer's labels, EPS
    "seam": (10, 3, 3, 80, 13, 10),
    # HFPL's library file: the test of its segmentation network
    "hfpl": (1, 3, 3, 32, 13, 10),
    # EDAM code: SEAM's kernels
    "edam": (3, 3, 3, 80, 13, 10),
    # MCTformer code: the test of its segmentation network
    "mctformer": (10, 4, 3, 83, 5, 3),
    # PMM code: masks of a class against the rest
    "pmm": (10, 3, 10, 80, 13, 10),
    # Spatial-BCE code: labels
    "spatial-bce": (10, 3, 3, 40, 5, 10),
}
ALONE = replace(IRN, gaussian_weight=0, bilateral_weight=0)  # no pixel hears of another


def random_image(seed: int, size: tuple[int, int] = (24, 32)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def random_labels(seed: int, n: int, size: tuple[int, int] = (24, 32)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, n, size, dtype=np.uint8)


def differing(found: np.ndarray, expected: np.ndarray) -> float:
    return float((found != expected).mean())


def test_refined_label_maps_are_the_golden_ones():
    first, second = np.load(GOLDEN / "ir_label_crf.npz"), np.load(GOLDEN / "densecrf_label.npz")
    assert differing(crf.hard(first["img"], first["crf_in"], len(first["keys"]) + 1, IRN), first["crf_out"]) <= 0.005
    assert differing(crf.hard(second["image"], second["label_fg_in"], len(second["keys"]), IRN), second["label_fg_crf"]) <= 0.001
    assert differing(crf.hard(second["image"], second["label_bg_in"], len(second["keys"]), IRN), second["label_bg_crf"]) <= 0.001


@pytest.mark.parametrize(
    ("output", "image", "parameters"),
    [
        ("deeplabv2_q", "image_uint8", "deeplab"),
        ("deeplabv2_wrapped_q", "deeplabv2_wrapped_image", "deeplab"),  # what deeplab-pytorch's script gives its CRF
        ("seam_q", "image_uint8", "hfpl"),
        ("visinf_q", "image_uint8", "seam"),
    ],
)
def test_marginals_are_the_golden_ones(output, image, parameters):
    golden = np.load(GOLDEN / "crf_postprocess.npz")
    found = crf.soft(golden[image], golden["prob"], crf.Parameters(**SETS[parameters]))
    np.testing.assert_allclose(found, golden[output], atol=2e-3)


@pytest.mark.parametrize(
    ("file", "name", "own"),
    [("soft", name, name.partition("_")[0]) for name in ("deeplab", "seam", "edam_t3")]
    + [("one_step", name, name.partition("_")[0]) for name in ("deeplab_t1", "seam_t1")],
)
def test_marginals_and_labels_of_every_parameter_set_are_the_golden_ones(file, name, own):
    golden, parameters = np.load(GOLDEN / f"densecrf_{file}.npz"), crf.Parameters(**SETS[own])
    steps = replace(parameters, iterations=1) if file == "one_step" else parameters
    found = crf.soft(golden["image"], golden["prob"], steps)
    np.testing.assert_allclose(found, golden[f"q_{name}"], atol=1e-4)
    assert differing(found.argmax(0), golden[f"lab_{name}"]) <= 0.001


@pytest.mark.parametrize(
    ("name", "background", "own"),
    [
        ("rsepm_gamma2", lambda highest: (1 - highest) ** 2, "deeplab"),
        ("rsepm_bgth0p3", lambda highest: np.full_like(highest, 0.3), "deeplab"),
        ("seam_alpha4", lambda highest: (1 - highest) ** 4, "seam"),
    ],
)
def test_marginals_of_seeds_with_every_background_score_are_the_golden_ones(name, background, own):
    golden = np.load(GOLDEN / "densecrf_background.npz")
    scores = np.concatenate([background(golden["fg_seed"].max(0, keepdims=True)), golden["fg_seed"]])
    found = crf.soft(golden["image"], scores, crf.Parameters(**SETS[own]))
    np.testing.assert_allclose(found, golden[f"q_{name}"], atol=1e-4)
    assert differing(found.argmax(0), golden[f"lab_{name}"]) <= 0.001


@pytest.mark.parametrize("name", ["deeplab", "seam", "edam_t3"])
def test_labels_are_nearly_those_of_exact_kernels(name):
    """The lattice approximates the kernels: 2 % of labels may differ, and the mean marginal by 5e-3."""
    golden = np.load(GOLDEN / "densecrf_exact.npz")
    found = crf.soft(golden["image"], golden["prob"], crf.Parameters(**SETS[name.partition("_")[0]]))
    assert differing(found.argmax(0), golden[f"exact_{name}"].argmax(0)) <= 0.02
    assert np.abs(found - golden[f"exact_{name}"]).mean() <= 5e-3


def test_every_array_of_the_label_mode_is_the_golden_one():
    golden = np.load(GOLDEN / "densecrf_label.npz")
    seeds, classes = torch.from_numpy(golden["fg_seed"]), golden["keys"][1:] - 1
    for level, name in ((0.30, "label_fg_in"), (0.05, "label_bg_in")):
        assert np.array_equal(winners(seeds, level), golden[name])
    wider = crf.hard(golden["image"], golden["label_fg_in"], 21, IRN)
    assert differing(wider, golden["label_21"]) <= 0.001
    found = crf.hard(golden["image"], golden["label_fg_in"], len(golden["keys"]), IRN)
    assert differing(found, golden["label_rsepm_run_label"]) <= 0.001
    assert differing(crf.confident(golden["image"], seeds, classes, 0.30, 0.05, IRN), golden["ir_label"]) <= 0.001


@pytest.mark.parametrize("alpha", [1, 4, 24])
def test_marginals_with_a_background_map_are_the_golden_ones(alpha):
    golden = np.load(GOLDEN / "crf_labels.npz")
    background = torch.from_numpy((1 - golden["cams"].max(axis=0)) ** alpha)
    found = crf.refined(golden["img"], torch.from_numpy(golden["cams"]), background, crf.Parameters(**SETS["seam"]))
    np.testing.assert_allclose(found[:, ::2, ::2], golden[f"crf_alpha{alpha}"][1:], atol=5e-3)


def test_confident_labels_with_a_background_map_of_the_method_s_own_are_the_golden_ones(tmp_path):
    golden = np.load(GOLDEN / "crf_labels.npz")
    path = tmp_path / "image.png"
    Image.fromarray(golden["img"]).save(path)
    maps = Maps(golden["keys"], golden["img"].shape[:2], (golden["is_cam"],), read=as_they_are)  # SIPE's, background first
    settings = {"parameters": SETS["irn-labels"], "maps.confident_background": 0.5}
    one = crf.confident_labels(context(settings, [], maps={"image": maps}))
    assert differing(one(Item("image", path, (6, 14)))["label"], golden["ir_label_sipe"]) <= 0.01


@pytest.mark.parametrize(
    ("method", "foreground", "background"),
    [("irn", 0.30, 0.05), ("recam", 0.35, 0.10), ("lpcam", 0.45, 0.25), ("advcam", 0.35, 0.15), ("amn", 0.45, 0.15)],
)
def test_confident_labels_are_the_golden_ones_of_every_method(method, foreground, background):
    golden = np.load(GOLDEN / "ir_label_crf.npz")
    found = crf.confident(golden["img"], torch.from_numpy(golden["cam"]), golden["keys"], foreground, background, IRN)
    assert differing(found, golden[f"conf_{method}"]) <= 0.005


@pytest.mark.parametrize(("method", "foreground", "background"), [("irn", 0.30, 0.05), ("spatial_bce", 0.60, 0.25)])
def test_confident_labels_of_the_hfpl_family_are_the_golden_ones(method, foreground, background):
    golden = np.load(GOLDEN / "crf_labels.npz")
    found = crf.confident(golden["img"], torch.from_numpy(golden["cams"]), golden["keys"], foreground, background, IRN)
    assert differing(found, golden[f"ir_label_{method}"]) <= 0.01


@settings(max_examples=15)
@given(st.integers(0, 10_000), st.integers(2, 4), st.sampled_from([0, 10, 27, 500]))
def test_one_inference_for_both_label_maps_gives_what_two_separate_crfs_give(seed, n, weight):
    own = replace(IRN, bilateral_weight=weight)
    rgb, maps = random_image(seed), torch.rand((n - 1, 24, 32), generator=torch.Generator().manual_seed(seed))
    keys = np.arange(n - 1)
    trusted, possible = (crf.hard(rgb, winners(maps, level), n, own) for level in (0.7, 0.4))
    expected = np.where((trusted == 0) & (possible != 0), 255, trusted)
    assert np.array_equal(crf.confident(rgb, maps, keys, 0.7, 0.4, own), expected)


@settings(max_examples=15)
@given(st.integers(0, 10_000), st.integers(2, 5))
def test_without_pairwise_weights_a_pixel_keeps_the_argmax_of_its_unary(seed, n):
    rgb, labels = random_image(seed), random_labels(seed, n)
    scores = np.random.default_rng(seed).random((n, 24, 32), np.float32)
    assert np.array_equal(crf.hard(rgb, labels, n, ALONE), labels)
    assert np.array_equal(crf.soft(rgb, scores, ALONE).argmax(axis=0), scores.argmax(axis=0))


@settings(max_examples=15)
@given(st.integers(0, 10_000), st.integers(2, 4))
def test_marginals_sum_to_one(seed, n):
    scores = np.random.default_rng(seed).random((n, 24, 32), np.float32)
    np.testing.assert_allclose(crf.soft(random_image(seed), scores, IRN).sum(axis=0), 1, atol=1e-5)


@settings(max_examples=10)
@given(st.integers(0, 10_000), st.permutations([0, 1, 2]))
def test_renaming_the_labels_renames_the_result(seed, order):
    rgb, scores = random_image(seed), np.random.default_rng(seed).random((3, 24, 32), np.float32)
    found = crf.soft(rgb, scores[order], IRN)
    np.testing.assert_allclose(found, crf.soft(rgb, scores, IRN)[order], atol=5e-3)  # ten iterations in float32


@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_constant_label_map_stays_as_the_lattice_itself_would_leave_it(n):
    rgb, labels = random_image(3), np.full((24, 32), n - 1, np.uint8)
    assert np.array_equal(crf.hard(rgb, labels, n, IRN), labels)
    if n > 1:  # the short cut against mean field
        scores = np.full((n, 24, 32), (1 - IRN.certainty) / (n - 1), np.float32)
        scores[n - 1] = IRN.certainty
        assert np.array_equal(crf.soft(rgb, scores, IRN).argmax(axis=0), labels)


def test_a_single_label_is_certain():
    np.testing.assert_allclose(crf.soft(random_image(1), np.full((1, 24, 32), 0.2, np.float32), IRN), 1)


def test_a_mirrored_view_of_an_image_is_as_good_as_a_copy():
    rgb, labels = random_image(5), random_labels(5, 3)
    assert np.array_equal(crf.hard(rgb[:, ::-1], labels, 3, IRN), crf.hard(rgb[:, ::-1].copy(), labels, 3, IRN))


def test_without_pairwise_weights_refined_maps_are_their_share_of_the_unary():
    maps, free = (
        torch.rand((2, 24, 32), generator=torch.Generator().manual_seed(1)),
        replace(IRN, gaussian_weight=0, bilateral_weight=0),
    )
    shares = maps / (maps.sum(dim=0) + 0.3)
    np.testing.assert_allclose(crf.refined(random_image(1), maps, 0.3, free), shares, atol=1e-4)


def test_at_background_0_marginals_are_finite_where_no_class_responds_either():
    maps = torch.zeros(2, 24, 32)
    maps[0, :, 16:] = 0.8
    found = crf.refined(random_image(1), maps, 0.0, ALONE)
    assert np.isfinite(crf.refined(random_image(1), maps, 0.0, IRN)).all()
    np.testing.assert_allclose(found[:, :, :16], 1 / 3, atol=1e-5)  # all three are equally unlikely there
    np.testing.assert_allclose(found[0, :, 16:], 1, atol=1e-4)


def test_no_class_at_all_is_confident_background():
    found = crf.confident(random_image(0), torch.zeros((0, 24, 32)), np.array([], np.int64), 0.3, 0.05, IRN)
    assert found.dtype == np.uint8 and found.max() == 0


def test_equal_thresholds_leave_nothing_undecided():
    maps = torch.rand((2, 24, 32), generator=torch.Generator().manual_seed(0))
    assert 255 not in crf.confident(random_image(0), maps, np.array([1, 2]), 0.5, 0.5, IRN)


def test_the_stages_read_their_method_s_thresholds_and_write_label_values(tmp_path):
    items = write_items(tmp_path, [(1,), ()], size=(24, 32))
    hill = np.exp(-((np.mgrid[:24, :32] - np.array([14, 40])[:, None, None] / 1.5) ** 2).sum(axis=0) / 60)[None].astype(
        np.float32
    )
    empty = Maps(np.array([], np.int64), (24, 32), ())
    records = {"image0": Maps(np.array([1]), (24, 32), (hill,), read=as_they_are), "image1": empty}
    values = {
        "parameters": SETS["irn-labels"],
        "maps.confident_foreground": 0.6,
        "maps.confident_background": 0.1,
        "maps.seed_threshold": 0.3,
    }
    where = context(values, items, maps=records)
    labels, masks, refined = crf.confident_labels(where), crf.masks(where), crf.maps(where)
    assert set(np.unique(labels(items[0])["label"])) == {0, 2, 255}
    assert set(np.unique(masks(items[0])["label"])) == {0, 2}
    assert labels(items[1])["label"].max() == masks(items[1])["label"].max() == 0
    found = Maps.of(refined(items[0]), as_they_are)
    assert found.keys.tolist() == [1] and found.strided().shape == (1, 6, 8) and found.full().shape == (1, 24, 32)
    assert found.full().min() < 0.1 and 0.5 < found.full().max() <= 1
    assert Maps.of(refined(items[1]), as_they_are).full().shape == (0, 24, 32)


def test_a_background_map_of_the_method_s_own_takes_the_place_of_the_thresholds(tmp_path):
    (item,) = write_items(tmp_path, [(1,)], size=(24, 32))
    planes = torch.rand((2, 24, 32), generator=torch.Generator().manual_seed(0))  # background first
    records = {item.id: Maps(np.array([1]), (24, 32), (planes.numpy(),), read=as_they_are)}
    where = context({"parameters": SETS["irn-labels"], "maps.confident_background": 0.5}, [item], maps=records)
    own, maps, keys, rgb = planes[0], planes[1:], np.array([1]), item.rgb()
    assert np.array_equal(crf.confident_labels(where)(item)["label"], crf.confident(rgb, maps, keys, own, own / 2, IRN))
    assert np.array_equal(crf.masks(where)(item)["label"], 2 * crf.hard(rgb, winners(maps, own), 2, IRN))
    found = Maps.of(crf.maps(where)(item), as_they_are).full()
    np.testing.assert_allclose(found, crf.soft(rgb, planes.numpy(), IRN)[1:], atol=1e-3)  # half precision
    constant = crf.confident(rgb, maps, keys, torch.full((24, 32), 0.6), torch.full((24, 32), 0.3), IRN)
    assert np.array_equal(constant, crf.confident(rgb, maps, keys, 0.6, 0.3, IRN))


def test_the_scores_themselves_are_refined_if_that_is_asked_for(tmp_path):
    golden = np.load(GOLDEN / "densecrf_background.npz")
    path, size = tmp_path / "image.png", golden["image"].shape[:2]
    Image.fromarray(golden["image"]).save(path)
    item, keys, none = Item("image", path, (1, 4, 5)), np.array([1, 4, 5]), np.zeros(0, np.int64)
    records = {"image": Maps(keys, size, (golden["fg_seed"],), read=as_they_are)}
    settings = {"parameters": SETS["deeplab"], "background_power": 2.0}
    label = crf.masks_of_scores(context(settings, [], maps=records))(item)["label"]
    assert differing(label, np.array([0, 2, 5, 6])[golden["lab_rsepm_gamma2"]]) <= 0.001
    records = {"image": Maps(keys[:1], size, (np.full((2, *size), [[[0.9]], [[0.4]]], np.float32),), read=as_they_are)}
    assert not crf.masks_of_scores(context(settings, [], maps=records))(item)["label"].any()  # a background map of its own
    empty = {"image": Maps(none, size, (), read=as_they_are)}
    assert not crf.masks_of_scores(context(settings, [], maps=empty))(item)["label"].any()


def two_halves(noise: int) -> tuple[np.ndarray, np.ndarray]:
    """An image of a dark and a light half, and their label map of 3 and 8 with some pixels swapped."""
    rgb = np.full((24, 32, 3), 40, np.uint8)
    rgb[:, 16:] = 200
    label = np.where(np.arange(32) < 16, 3, 8).astype(np.uint8).repeat(24).reshape(32, 24).T.copy()
    places = np.random.default_rng(0).permutation(label.size)[:noise]
    label.flat[places] = 11 - label.flat[places]
    return rgb, label


def test_a_label_map_of_another_refiner_is_refined_among_the_labels_that_it_has(tmp_path):
    rgb, noisy = two_halves(noise=60)
    clean = two_halves(noise=0)[1]
    (item,) = write_items(tmp_path, [()], size=(24, 32))
    Image.fromarray(rgb).save(item.image)
    one = crf.masks_of_masks(context({"parameters": SETS["irn-labels"]}, [item], masks={item.id: {"label": noisy}}))
    found = one(item)["label"]
    assert found.dtype == np.uint8 and differing(found, clean) == 0 < differing(noisy, clean)


def test_undecided_pixels_stay_undecided_and_count_for_no_label():
    rgb, label = two_halves(noise=0)
    holed = label.copy()
    holed[4:20, 4:28] = 255
    assert np.array_equal(crf.refined_labels(rgb, holed, IRN), holed)
    energy_free = crf.hard(rgb, np.where(holed == 255, 255, holed // 8).astype(np.uint8), 2, IRN)
    assert np.array_equal(energy_free, label // 8)  # their neighbours' colours decide
    assert np.array_equal(crf.refined_labels(rgb, np.where(holed == 8, np.uint8(255), holed), IRN), np.where(holed == 3, 3, 255))


@pytest.mark.parametrize(("name", "published"), PUBLISHED.items())
def test_each_parameter_set_is_the_published_one(name, published):
    own = crf.Parameters(**SETS[name])
    assert own.iterations == published[0]
    assert (own.gaussian_sxy, own.gaussian_weight) == published[1:3]
    assert (own.bilateral_sxy, own.bilateral_srgb, own.bilateral_weight) == published[3:6]
    assert own.certainty == 0.7  # in all code that makes unaries of labels


def test_all_parameter_sets_are_compared_with_their_sources():
    assert set(PUBLISHED) == set(SETS)


def test_a_missing_library_is_named_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydensecrf.densecrf", None)
    with pytest.raises(WrongInput, match="pip install pydensecrf2"):
        crf.hard(random_image(0), random_labels(0, 2), 2, IRN)
