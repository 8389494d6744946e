"""FSL: the loss and its gradient against golden vectors, against all pairs one by one, and its identities."""

from math import exp, pi

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from imagesets.normalising import normalised
from maps.feature_similarity import _pull, nearness, pull, similarity_loss
from maps.normalising import max_normalised, min_max_normalised
from methods.fsl import FeatureSimilarity, colours, gated
from tests.golden_vectors import golden
from tests.test_isl import Fixed
from training.stage import Settings, Training


def gradient(loss: torch.Tensor, of: torch.Tensor) -> torch.Tensor:
    return torch.autograd.grad(loss, of)[0]


def close(found: torch.Tensor, wanted: torch.Tensor, share: float) -> None:
    """Within `share` of the largest value wanted."""
    assert (found - wanted).abs().max() <= share * wanted.abs().max()


@pytest.mark.parametrize("case", range(7))
def test_the_loss_and_its_gradient_are_the_public_code_s(case: int) -> None:
    ref = golden("fsl_core")
    maps = ref["y"][: ref["batch"][case]].requires_grad_()
    mu, sigma, radius = (float(ref[name][case]) for name in ("mu", "sigma", "max_dist"))
    loss = similarity_loss(maps, ref["x"][: len(maps)], mu, max(sigma, 0.0), radius=radius if ref["fast"][case] else None)
    torch.testing.assert_close(loss, ref["loss"][case], rtol=2e-4, atol=0)
    close(gradient(loss, maps), ref[f"grad_{case}"], 1e-4)


@pytest.mark.parametrize(
    ("name", "gating", "background"),
    [
        ("s", "s", False),
        ("b", "b", False),
        ("a", "a", True),
        ("r_code", "r", True),
        ("r_paper", "r-paper", False),
        ("r_paper_detached", "r-detached", False),
    ],
)
def test_each_gating_is_the_published_one(name: str, gating: str, background: bool) -> None:
    ref = golden("fsl_gating")
    scores = ref["s"].requires_grad_()
    maps = gated(scores, ref["label"][:, 1:], gating, background)
    torch.testing.assert_close(maps, ref[f"y_{name}"], rtol=1e-5, atol=1e-6)
    loss = similarity_loss(maps, ref["x"], float(ref["mu"]), float(ref["sigma"]))
    torch.testing.assert_close(loss, ref[f"loss_{name}"], rtol=3e-4, atol=0)
    close(gradient(loss, scores), ref[f"grad_{name}"], 2e-4)


def test_the_background_of_scores_above_1_is_negative_and_has_a_gradient() -> None:
    scores = torch.tensor([[[[3.0, 0.5]], [[1.0, -2.0]]]], requires_grad=True)
    background = gated(scores, torch.ones(1, 2), "s", True)[:, 0]
    torch.testing.assert_close(background, torch.tensor([[[-2.0, 0.5]]]))
    torch.testing.assert_close(gradient(background.sum(), scores)[:, 0], torch.full((1, 1, 2), -1.0))


def test_maps_are_normalised_as_published() -> None:
    ref = golden("maxnorm")
    scores = ref["s"].requires_grad_()
    maps = max_normalised(scores)
    torch.testing.assert_close(maps, ref["r"], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradient((maps * ref["upstream"]).sum(), scores), ref["grad"], rtol=1e-4, atol=1e-6)
    # HFPL draws maps over their maximum, not over their range; the rest of that rule is that of inference
    low, high = (bound(ref["s"].relu(), dim=(2, 3), keepdim=True) for bound in (torch.amin, torch.amax))
    drawn = min_max_normalised(ref["s"]) * (high - low + 1e-5) / (high + 1e-5)
    torch.testing.assert_close(drawn.detach(), ref["r_numpy"], rtol=1e-5, atol=1e-6)
    fused = min_max_normalised(ref["cam_list"].sum(dim=0))
    torch.testing.assert_close(fused, ref["fused_norm_cam"], rtol=1e-5, atol=1e-6)
    lacking = 1 - fused[ref["present"].long()].amax(dim=0)
    torch.testing.assert_close(torch.stack([lacking**alpha for alpha in ref["bg_alpha"]]), ref["bg_score"], rtol=1e-5, atol=1e-6)


def pairwise(maps: np.ndarray, image: np.ndarray, mu: float, sigma: float) -> float:
    """The loss of one image, pair by pair, in double precision."""
    _, height, width = maps.shape
    total = 0.0
    for first in np.ndindex(height, width):
        for second in np.ndindex(height, width):
            apart = abs(image[:, *first] - image[:, *second]).mean()
            alike = np.tanh(mu + np.log((apart + 1e-5) / (1 - apart + 1e-5)))
            near = exp(-sum((a - b) ** 2 for a, b in zip(first, second, strict=True)) / (2 * sigma**2)) / (2 * pi * sigma**2)
            total -= near * alike * ((maps[:, *first] - maps[:, *second]) ** 2).sum() / 2
    return total / (height * width)


@settings(max_examples=20)
@given(st.integers(0, 999), st.integers(1, 5), st.integers(1, 5), st.floats(-3, 5), st.floats(0.5, 9))
def test_it_is_the_sum_over_pairs_on_grids_of_any_shape(seed: int, height: int, width: int, mu: float, sigma: float) -> None:
    rng = np.random.default_rng(seed)
    maps, image = rng.random((3, height, width)), rng.random((3, height, width))
    maps[1] = 0
    loss = similarity_loss(torch.from_numpy(maps)[None], torch.from_numpy(image)[None], mu, sigma)
    assert loss.item() == pytest.approx(pairwise(maps, image, mu, sigma), rel=1e-9, abs=1e-14)


def test_a_batch_at_once_as_on_a_gpu_is_the_same_as_image_by_image() -> None:
    rng = torch.Generator().manual_seed(0)
    maps, image = torch.rand(3, 4, 5, 7, generator=rng), torch.rand(3, 3, 5, 7, generator=rng)
    maps[0, 1:], maps[1] = 0, 0
    near = nearness(maps, 5.0)
    torch.testing.assert_close(_pull(maps, image, 2.5, near), pull(maps, image, 2.5, near), rtol=1e-5, atol=1e-6)


@given(st.integers(0, 999), st.floats(-100, 100, width=32))
def test_it_is_zero_for_constant_maps(seed: int, value: float) -> None:
    image = torch.from_numpy(np.random.default_rng(seed).random((1, 3, 6, 5)).astype(np.float32))
    maps = torch.full((1, 2, 6, 5), value, requires_grad=True)
    loss = similarity_loss(maps, image, 2.5, 5.0)
    assert loss.abs() <= 1e-12 * value**2 and gradient(loss, maps).abs().max() <= 1e-6 * abs(value)


def test_it_pulls_maps_together_over_equal_colours_and_apart_over_different_ones() -> None:
    maps = torch.zeros(1, 1, 4, 4)
    maps[..., 2:] = 1
    plain = torch.full((1, 3, 4, 4), 0.5)
    edged = maps.expand(1, 3, 4, 4)
    assert similarity_loss(maps, plain, 2.5, 5.0) > 0 > similarity_loss(maps, edged, 2.5, 5.0)


@settings(max_examples=30)
@given(st.integers(0, 999), st.integers(1, 3), st.booleans())
def test_a_map_over_its_maximum_cannot_lower_the_loss_by_growing(seed: int, classes: int, background: bool) -> None:
    """Without guards, and with the maximum's gradient, the sum over positions of s dL/ds is 0 in every positive channel."""
    rng = np.random.default_rng(seed)
    scores = torch.from_numpy(rng.normal(0.5, 1, (2, classes, 5, 6))).requires_grad_()
    labels = torch.from_numpy(rng.integers(0, 2, (2, classes)).astype(np.float64))
    image = torch.from_numpy(rng.random((2, 3, 5, 6)))
    found = gradient(similarity_loss(gated(scores, labels, "r-paper", background), image, 2.5, 5.0), scores)
    sums = (scores * found).sum(dim=(2, 3))
    assert sums.abs().max() <= 1e-12
    if labels.any():
        detached = gradient(similarity_loss(gated(scores, labels, "r-detached", background), image, 2.5, 5.0), scores)
        assert (scores * detached).sum(dim=(2, 3)).abs().max() > 1e-6


def test_a_background_repeats_the_contrast_of_a_lone_class_and_absent_classes_have_no_gradient() -> None:
    scores = torch.randn(1, 3, 6, 6, generator=torch.Generator().manual_seed(0)).requires_grad_()
    labels, image = torch.tensor([[0.0, 1, 0]]), torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    alone, both = (similarity_loss(gated(scores, labels, "r", own), image, 2.5, 5.0) for own in (False, True))
    torch.testing.assert_close(both, 2 * alone)
    assert gradient(both, scores).flatten(2).any(dim=2).tolist() == [[False, True, False]]


def test_all_classes_absent_and_no_positive_score_is_no_loss() -> None:
    scores = torch.full((1, 2, 4, 4), -1.0, requires_grad=True)
    for labels in (torch.zeros(1, 2), torch.ones(1, 2)):
        for gating in ("r", "r-paper", "r-detached"):
            loss = similarity_loss(gated(scores, labels, gating, True), torch.rand(1, 3, 4, 4), 2.5, 5.0)
            assert loss == 0 and not gradient(loss, scores).any()


def test_colours_are_those_of_the_image_before_it_was_normalised() -> None:
    rgb = torch.randint(0, 256, (1, 7, 9, 3), dtype=torch.uint8)
    torch.testing.assert_close(colours(normalised(rgb), (7, 9)), rgb.movedim(-1, 1) / 255, rtol=0, atol=1e-6)
    corners = colours(normalised(rgb), (3, 4))[0, :, ::2, ::3]
    torch.testing.assert_close(corners, rgb[0, ::6, ::8].movedim(-1, 0) / 255, rtol=0, atol=1e-5)


def test_the_add_on_compares_the_enlarged_map_with_the_image_at_its_size() -> None:
    values = {"mu": 2.5, "sigma": 5.0, "gating": "r", "background": True, "weight": 0.5, "factor": 0.1, "upsampling": 2}
    scores, labels = torch.rand(1, 1, 3, 4), torch.ones(1, 1)
    made = Fixed({"classification": torch.tensor(1.0)}, scores)
    objective = FeatureSimilarity(Training(made, made, *[None] * 3, 1, 1), Settings(values))  # type: ignore[arg-type]
    image = normalised(torch.randint(0, 256, (1, 24, 32, 3), dtype=torch.uint8))
    losses, _ = objective({"image": image, "labels": labels}, 0)
    enlarged = torch.nn.functional.interpolate(scores, scale_factor=2, mode="bilinear")
    wanted = similarity_loss(gated(enlarged, labels, "r", True), colours(image, (6, 8)), 2.5, 5.0)
    assert losses["classification"] == 1 and wanted != 0
    torch.testing.assert_close(losses["feature_similarity"], 0.05 * wanted)
