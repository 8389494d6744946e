"""EDAM: the golden vectors of the public code, and what must hold for pairs, masks and blocks whatever the images."""

from importlib import import_module
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

import backbones
from backbones.resnet import small
from imagesets.item import Item
from maps.maps import Maps
from methods import edam, recam
from methods.class_attention import layer_norm, position_codes
from tests.golden_vectors import golden
from training import optimisers

PARTS = {"joined": "attention.output_linear", "inner": "feed_forward.w_1", "outer": "feed_forward.w_2"}
NORMS = {"attention": "input_sublayer.norm", "layers": "output_sublayer.norm"}
LABELS = st.lists(st.lists(st.integers(0, 4), max_size=3, unique=True), min_size=1, max_size=30)


class Same(nn.Module):
    """A backbone that returns its input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = (channels,)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (images,)


def golden_network(ref: dict[str, torch.Tensor]) -> edam.EDAM:
    width, channels, *_ = ref["w/d_d.weight"].shape
    classes = len(ref["w/mask_layer.weight"]) - 1
    network = edam.EDAM(Same(channels), classes, width)  # type: ignore[arg-type]
    own = {"mask_branch.weight": ref["w/mask_layer.weight"], "embedding.weight": ref["w/d_d.weight"]}
    own |= {"segments": ref["w/embedding.segment.weight"][:2]}
    own["classifier"] = torch.cat([ref[f"w/fc_list.{k}.weight"].flatten(1) for k in range(classes)])
    for kind in ("weight", "bias"):
        layers = {name: [ref[f"w/trans_list.{k}.0.{theirs}.{kind}"] for k in range(classes)] for name, theirs in PARTS.items()}
        heads = [[ref[f"w/trans_list.{k}.0.attention.linear_layers.{i}.{kind}"] for i in range(3)] for k in range(classes)]
        stacked = {**layers, "projected": [torch.cat(parts) for parts in heads]}
        plural = "weights" if kind == "weight" else "biases"
        own |= {f"attention.{plural}.{name}": torch.stack(found) for name, found in stacked.items()}
    for plural, letter in (("scales", "a_2"), ("shifts", "b_2")):
        for name, theirs in NORMS.items():
            rows = [ref[f"w/trans_list.{k}.0.{theirs}.{letter}"] for k in range(classes)]
            own[f"attention.{plural}.{name}"] = torch.stack(rows)
    network.load_state_dict(own)
    return network.eval()


def test_masks_and_logits_of_a_pair_are_the_public_code_s() -> None:
    ref = golden("edam_head")
    network = golden_network(ref)
    masks = network.masks(ref["feature"])
    torch.testing.assert_close(masks, ref["mask"], rtol=0, atol=2e-5)
    (logits,) = network.pair_logits(ref["feature"], masks, torch.tensor([[0, 1]]))
    torch.testing.assert_close(logits[:, ref["label_idx"].long()].flatten(), ref["logits"], rtol=0, atol=2e-5)
    codes = ref["w/embedding.position.pe"][0]
    torch.testing.assert_close(position_codes(*codes.shape, masks), codes, rtol=0, atol=1e-6)


def test_the_rates_are_the_public_code_s() -> None:
    factor = optimisers.warmed_up_poly(60, 10)
    rates = [0.01 * factor(step) for step in range(60)]
    np.testing.assert_allclose(rates, golden("schedules")["edam_lr"], rtol=1e-5)
    assert [optimisers.warmed_up_poly(3, 10)(step) for step in (0, 1)] == pytest.approx([0.1, 0.19])  # a training that ends in it
    assert optimisers.warmed_up_poly(5, 0)(2) == optimisers.poly(5)(2)


@settings(max_examples=30)
@given(LABELS, st.integers(2, 9), st.integers(0, 3))
def test_every_epoch_is_of_pairs_that_share_a_class_and_shows_no_image_in_two_pairs(labels, batch, seed) -> None:
    items = [Item(str(place), Path(), tuple(own)) for place, own in enumerate(labels)]
    places = edam.Pairs(batch)(items, np.random.default_rng(seed)).places.tolist()
    assert len(places) == 2 * max(1, len(items) // 2)  # every epoch is equally long
    seen = []
    for start in range(0, len(places), batch):
        own = places[start : start + batch]
        if len(own) % 2 == 0:
            pairs = list(zip(own[: len(own) // 2], own[len(own) // 2 :], strict=True))
            if batch % 2 == 0:
                assert all(one == other or set(labels[one]) & set(labels[other]) for one, other in pairs)
                seen += [place for pair in pairs for place in set(pair)]
    assert len(seen) == len(set(seen))


@settings(max_examples=30)
@given(LABELS, st.integers(0, 3))
def test_only_images_that_share_no_class_with_another_left_one_are_alone(labels, seed) -> None:
    order = np.random.default_rng(seed).permutation(len(labels)).tolist()
    pairs = edam.matched(labels, order)
    assert sorted({place for pair in pairs for place in pair}) == list(range(len(labels)))
    alone = [one for one, other in pairs if one == other]
    assert all(not set(labels[one]) & set(labels[other]) for one, other in pairwise(sorted(alone)) if one != other)
    assert len(pairs) == len(alone) + (len(labels) - len(alone)) // 2


@settings(max_examples=30)
@given(st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=9))
def test_every_image_of_a_batch_is_in_one_pair_and_partners_share_a_class(labels) -> None:
    hot = torch.tensor(labels, dtype=torch.float32)
    pairs = edam.partners(hot).tolist()
    alone = [one for one, other in pairs if one == other]
    assert sorted([place for pair in pairs for place in set(pair)]) == list(range(len(labels)))
    assert all(one == other or float(hot[one] @ hot[other]) > 0 for one, other in pairs)
    assert all(float(hot[one] @ hot[other]) == 0 for place, one in enumerate(alone) for other in alone[place + 1 :])


def test_workers_that_share_a_batch_get_whole_pairs() -> None:
    labels = [(place % 4,) for place in range(32)]
    items = [Item(str(place), Path(), own) for place, own in enumerate(labels)]
    places = edam.Pairs(8)(items, np.random.default_rng(0)).places
    for world in (1, 2, 4):
        for rank in range(world):
            share = places[:8][rank::world]
            own = torch.stack([functional.one_hot(torch.tensor(labels[place][0]), 4).float() for place in share])
            assert edam.partners(own).tolist() == [[place, place + len(share) // 2] for place in range(len(share) // 2)]


def network(classes: int = 3, channels: int = 6) -> edam.EDAM:
    torch.manual_seed(0)
    return edam.EDAM(Same(channels), classes, 8, dropout=0.0).eval()  # type: ignore[arg-type]


def test_the_loss_of_one_pair_is_the_mean_over_both_images_and_all_classes() -> None:
    features, labels = torch.randn(2, 6, 4, 5), torch.tensor([[1.0, 0, 1], [0, 0, 1]])
    own = network()
    losses, outputs = edam.CommonClassObjective(own)({"image": features, "labels": labels}, 0)
    (logits,) = own.pair_logits(features, own.masks(features), torch.tensor([[0, 1]]))
    torch.testing.assert_close(losses["classification"], functional.binary_cross_entropy_with_logits(logits, labels))
    torch.testing.assert_close(outputs["scores"].softmax(dim=1), own.masks(features).roll(1, dims=1) ** 2, rtol=1e-3, atol=1e-5)


def test_pairs_of_a_batch_do_not_change_one_another_s_logits() -> None:
    features, own = torch.randn(4, 6, 4, 5), network()
    labels = torch.eye(3)[[0, 1, 0, 1]]
    both = edam.of_images(own.pair_logits(features, own.masks(features), pairs := edam.partners(labels)), pairs)
    assert pairs.tolist() == [[0, 2], [1, 3]]
    alone = own.pair_logits(features[[1, 3]], own.masks(features[[1, 3]]), torch.tensor([[0, 1]]))[0]
    torch.testing.assert_close(both[[1, 3]], alone, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("count", [1, 3])
def test_an_image_without_a_partner_learns_from_itself(count: int) -> None:
    own, features = network(), torch.randn(count, 6, 4, 5)
    labels = torch.eye(3)[[0, 1, 2][:count]]  # no two share a class
    losses, _ = edam.CommonClassObjective(own)({"image": features, "labels": labels}, 0)
    assert losses["classification"].isfinite() and edam.partners(labels).tolist() == [[place, place] for place in range(count)]


def test_the_probability_of_a_vector_is_the_squared_mask_of_a_map_that_it_fills() -> None:
    own, vectors = network(), torch.randn(5, 6)
    filled = vectors[:, :, None, None].expand(-1, -1, 5, 5)
    inside = own.masks(filled)[:, :3, 2, 2] ** 2
    found = torch.stack([own.probability(vectors, index) for index in range(3)], dim=1)
    torch.testing.assert_close(found, inside, rtol=1e-4, atol=1e-6)
    assert bool((found.sum(dim=1) < 1).all())  # background has the rest


@settings(max_examples=10)
@given(st.integers(0, 20))
def test_masks_compete(seed: int) -> None:
    scores = torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(seed))
    masks = edam.competing(scores)
    torch.testing.assert_close((masks**2).sum(dim=1), torch.ones(2, 3, 3))
    torch.testing.assert_close(masks, edam.competing(-3 * scores))


def test_the_layer_norm_divides_by_the_unbiased_deviation() -> None:
    tokens = torch.tensor([[[[1.0, 3.0]]]])
    found = layer_norm(tokens, torch.tensor([[2.0, 2.0]]), torch.tensor([[0.0, 1.0]]))
    torch.testing.assert_close(found, torch.tensor([[[[-(2**0.5), 1 + 2**0.5]]]]))


def test_it_reads_its_backbone_before_the_last_rectifier() -> None:
    own = SimpleNamespace(backbone=small, stride=16, weights="none", width=8, dropout=0.0)
    assert bool((edam.network(own, ("cat",)).features(torch.randn(2, 3, 32, 40)) < 0).any())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mobilenet:mobilenetv2", "efficientnet:efficientnet_lite0", "resnet:resnet18"])
def test_it_works_on_small_backbones(name: str) -> None:
    module, _, function = name.rpartition(":")
    architecture = getattr(import_module(f"backbones.{module}"), function)
    backbone = backbones.build(architecture, stride=16, dilated=True, frozen_statistics=True)
    own = edam.EDAM(backbone, 2, 8)
    losses, _ = edam.CommonClassObjective(own)({"image": torch.randn(2, 3, 32, 32), "labels": torch.ones(2, 2)}, 0)
    losses["classification"].backward()
    assert all(value.grad is not None and value.grad.isfinite().all() for value in own.mask_branch.parameters())


def test_maps_are_divided_by_their_maximum_alone_and_empty_ones_stay_empty() -> None:
    grids = np.zeros((2, 3, 4), np.float32)
    grids[0, 1, 2] = 1e-3
    found = edam.read(Maps(np.array([0, 2]), (3, 4), (grids,)), full=True)
    assert float(found[0].max()) == 1.0 and not found[1].any()


def test_recam_masks_features_by_maps_as_it_does_by_weights() -> None:
    features, weights = torch.randn(2, 6, 4, 5), torch.randn(3, 6)
    maps = torch.einsum("kc,bchw->bkhw", weights, features).relu()
    torch.testing.assert_close(recam.masked_features(features, maps), recam.class_features(features, weights))
