"""EPS: the golden vectors of the public code, and what must hold for its loss whatever the maps."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.nn import functional

from imagesets.item import Item
from imagesets.saliency import SaliencyMaps
from methods import eps
from tests.golden_vectors import golden


@pytest.mark.parametrize("overlap", [0.4, 0.5])
def test_loss_gradient_and_maps_are_the_public_code_s(overlap: float) -> None:
    ref, name = golden("eps_loss"), f"tau{overlap}".replace(".", "p")
    scores = ref["cam"].requires_grad_()
    loss = eps.saliency_loss(scores, ref["saliency"], ref["label"], overlap)
    loss.backward()
    torch.testing.assert_close(loss[None], ref[f"{name}_loss"], rtol=0, atol=1e-6)
    torch.testing.assert_close(scores.grad, ref[f"{name}_grad"], rtol=0, atol=1e-7)
    probabilities = scores.detach().softmax(dim=1)
    saliency = functional.interpolate(ref["saliency"], size=scores.shape[2:])
    foreground, rest = eps.sides(probabilities, saliency, ref["label"], overlap)
    for found, kind in ((foreground, "fg"), (rest, "bg"), (eps.predicted_saliency(foreground, rest, 0.5), "pred")):
        torch.testing.assert_close(found, ref[f"{name}_{kind}"], rtol=0, atol=1e-6)
    torch.testing.assert_close(eps.overlaps(probabilities[:, :-1], saliency), ref["overlap"], rtol=0, atol=1e-6)


def test_the_share_of_the_foreground_is_the_public_code_s() -> None:
    ref = golden("eps_loss")
    loss = eps.saliency_loss(ref["cam"], ref["saliency"], ref["label"], 0.4, 0.3)
    torch.testing.assert_close(loss[None], ref["tau0p4_loss_lam0p3"], rtol=0, atol=1e-6)


def scores_of(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(2, 4, 5, 6, generator=draw), torch.rand(2, 1, 5, 6, generator=draw)


@settings(max_examples=20)
@given(st.integers(0, 30), st.floats(0, 1))
def test_of_all_classes_foreground_and_background_leave_nothing(seed: int, overlap: float) -> None:
    scores, saliency = scores_of(seed)
    found = eps.sides(scores.softmax(dim=1), saliency, torch.ones(2, 3), overlap)
    torch.testing.assert_close(found[0], found[1])  # what is no background is foreground
    for share in (0.0, 0.7):  # so their shares do not matter
        torch.testing.assert_close(eps.predicted_saliency(*found, share), found[0])


@settings(max_examples=20)
@given(st.integers(0, 30))
def test_the_loss_of_classes_that_an_image_does_not_show_pushes_them_down_as_if_they_were_salient(seed: int) -> None:
    scores, saliency = scores_of(seed)
    foreground, rest = eps.sides(scores.softmax(dim=1), saliency, torch.zeros(2, 3), 0.4)
    assert not foreground.any()
    torch.testing.assert_close(rest, 1 - scores.softmax(dim=1)[:, 3:])


def test_maps_that_are_the_saliency_map_have_no_loss() -> None:
    saliency = torch.zeros(1, 1, 8, 8)
    saliency[..., 2:5, 1:6] = 1
    scores = torch.cat([40 * saliency - 20, torch.full_like(saliency, -60), 20 - 40 * saliency], dim=1)
    assert float(eps.saliency_loss(scores, saliency, torch.tensor([[1.0, 0.0]]), 0.4)) < 1e-12
    assert float(eps.saliency_loss(scores, 1 - saliency, torch.tensor([[1.0, 0.0]]), 0.4)) > 0.2


def test_an_example_s_saliency_lies_where_its_image_does(tmp_path: Path) -> None:
    rgb = np.zeros((40, 60, 3), np.uint8)
    rgb[10:30, 5:25] = 255
    Image.fromarray(rgb).save(tmp_path / "a.png")
    (tmp_path / "maps").mkdir()
    Image.fromarray(rgb[::2, ::2, 0]).save(tmp_path / "maps" / "a.jpg", quality=100)  # half the size
    sample = eps.SalientCrop((50, 70), 64, 2, saliency=SaliencyMaps.of(str(tmp_path / "maps")))
    for seed in range(4):
        made = sample(Item("a", tmp_path / "a.png", (1,)), np.random.default_rng(seed))
        assert made["labels"].tolist() == [0, 1] and made["saliency"].shape == (64, 64)
        salient, white = made["saliency"] > 127, (made["image"][0] > 127) & (made["image"][3] > 0)
        assert int((salient & white).sum()) > 0.85 * int((salient | white).sum())
        assert not made["saliency"][made["image"][3] == 0].any()


def test_one_class_is_enough() -> None:
    scores = torch.randn(2, 2, 4, 4, requires_grad=True)
    loss = eps.saliency_loss(scores, torch.rand(2, 1, 16, 16), torch.tensor([[1.0], [0.0]]), 0.4)
    loss.backward()
    assert scores.grad is not None and scores.grad.isfinite().all() and loss > 0
