"""The mixings that need an image classifier alone: CutMix and Saliency Grafting, and what all mixings share."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from imagesets.errors import WrongInput
from methods import cutmix, saliency_grafting
from methods.saliency_grafting import distribution, grafted_cells, label_weight, visible_share
from orchestrator.planning.refusals import refuse_run
from tests.contracts.cases import SEGMENTER, Case, plan
from tests.contracts.images import write_images
from tests.contracts.laboratory import Laboratory
from tests.golden_vectors import golden
from tests.planned_run import planned
from training.mixing import Mixing, of_others, pasted
from training.stage import Losses, Outputs
from training.transfer import Batch


class Seen(nn.Module):
    """A network that keeps the images that it gets; its logits are its only parameter."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.logits, self.images = nn.Parameter(torch.zeros(classes)), list[torch.Tensor]()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.images.append(images)
        return self.logits.expand(len(images), -1)


class Plain(nn.Module):
    """An objective with one loss and a score map [B,3,4,4]."""

    def forward(self, batch: Batch, step: int) -> tuple[Losses, Outputs]:
        scores = torch.rand(len(batch["image"]), 3, 4, 4, generator=torch.Generator().manual_seed(0))
        return {"classification": torch.tensor(1.0)}, {"scores": scores}


def batch(count: int = 4, side: int = 16) -> Batch:
    """Each image is full of its own number, so that it is known where it came from."""
    images = torch.arange(count).float()[:, None, None, None].expand(-1, 3, side, side)
    return {"image": images, "labels": torch.eye(3)[torch.arange(count) % 3]}


def test_boxes_are_the_public_code_s() -> None:
    for *size, share, row, column, top, left, bottom, right, outside in golden("mix_baselines")["cutmix_boxes"].double().tolist():
        found = cutmix.box([int(side) for side in size], share, (int(row), int(column)))
        assert found == (top, left, bottom, right)
        assert cutmix.share_outside(size, found) == pytest.approx(outside, abs=1e-6)


@given(st.tuples(st.integers(1, 40), st.integers(1, 40)), st.floats(0, 1), st.floats(0, 1, exclude_max=True), st.integers(0, 99))
def test_the_share_that_stays_is_what_was_not_pasted(size: tuple[int, int], share: float, centre: float, seed: int) -> None:
    found = cutmix.box(size, share, [int(centre * side) for side in size])
    images = torch.arange(3.0)[:, None, None, None].expand(-1, 3, *size)
    order = torch.randperm(3, generator=torch.Generator().manual_seed(seed))
    mixed = cutmix.cut_and_pasted(images, order, found)
    own = (mixed == images)[:, 0].flatten(1).float().mean(dim=1)
    for place, other in enumerate(order.tolist()):
        assert own[place] == pytest.approx(1 if other == place else cutmix.share_outside(size, found), abs=1e-5)


def test_an_empty_box_leaves_the_images_and_a_full_one_swaps_them() -> None:
    images, order = torch.rand(2, 3, 6, 8), torch.tensor([1, 0])
    assert torch.equal(cutmix.cut_and_pasted(images, order, (3, 4, 3, 4)), images)
    assert torch.equal(cutmix.cut_and_pasted(images, order, (0, 0, 6, 8)), images[order])


def test_saliency_grafting_is_that_of_its_definition() -> None:
    ref = golden("saliency_grafting")
    torch.testing.assert_close(distribution(ref["saliency2"], 0.2), ref["prob2"], rtol=0, atol=1e-6)
    cells = grafted_cells(ref["saliency2"], ref["bernoulli"], 0.2)
    assert torch.equal(cells.byte(), ref["mask"])
    mask = cells.repeat_interleave(4, 0).repeat_interleave(4, 1)[None]
    assert torch.equal(pasted(ref["image2"][None], ref["image1"][None], mask)[0], ref["image_mix"])
    shares = torch.stack([visible_share(ref["saliency1"], ~cells), visible_share(ref["saliency2"], cells)])
    torch.testing.assert_close(shares, ref["importance"], rtol=0, atol=1e-6)
    weight = label_weight(ref["saliency1"], ref["saliency2"], cells)
    torch.testing.assert_close(weight[None], ref["lam"], rtol=0, atol=1e-6)


def test_what_shows_nothing_salient_gives_no_label() -> None:
    none, some, cells = torch.zeros(4, 4), torch.rand(4, 4), torch.eye(4) > 0
    assert not grafted_cells(none, torch.ones(4, 4), 0.2).any()  # all is equal, and nothing is above the mean
    assert label_weight(some, none, cells) == 1 and label_weight(none, some, cells) == 0 and label_weight(none, none, cells) == 1


@given(st.integers(0, 999), st.integers(2, 6))
def test_a_partner_is_always_another_image(seed: int, count: int) -> None:
    torch.manual_seed(seed)
    others = of_others(count)
    assert ((others >= 0) & (others < count) & (others != torch.arange(count))).all()


def test_every_other_image_is_a_partner_equally_often() -> None:
    torch.manual_seed(0)
    counts = torch.stack([of_others(4) for _ in range(3000)]).T
    for own, partners in enumerate(counts):
        shares = torch.bincount(partners, minlength=4) / 3000
        assert shares[own] == 0 and torch.allclose(shares[torch.arange(4) != own], torch.tensor(1 / 3), atol=0.04)


MIXES = {
    "cutmix": lambda network: lambda batch, outputs: cutmix.mix(batch, outputs, network, beta=1.0),
    "saliency-grafting": lambda network: (
        lambda batch, outputs: saliency_grafting.mix(batch, outputs, network, probability=0.5, temperature=0.2)
    ),
}


@pytest.mark.parametrize("name", MIXES)
def test_every_pixel_is_of_one_of_two_images_and_no_label_is_new(name: str) -> None:
    network, own = Seen(), batch()
    torch.manual_seed(1)
    losses, _ = Mixing(Plain(), 0, 2.0, MIXES[name](network))(own, 0)
    (mixed,) = network.images
    for place, image in enumerate(mixed):
        shown = set(image.unique().tolist())
        assert len(shown) <= 2 and (place in shown or name == "cutmix")
    # at logits of 0 every label has the same loss, so that of the mixtures is weight * log 2; its gradient tells the labels' sum
    torch.testing.assert_close(losses["mixed_classification"].detach(), 2 * torch.tensor(2.0).log())
    assert losses["classification"] == 1
    (gradient,) = torch.autograd.grad(losses["mixed_classification"], network.logits)
    labels = 0.5 - gradient / 2 * 3  # the mean over 4 images of each class's label
    assert labels.sum() * 4 == pytest.approx(4, abs=1e-4) and (labels >= 0).all()


@pytest.mark.parametrize("name", MIXES)
def test_a_mixing_draws_by_torch_s_generator_alone(name: str) -> None:
    seen = []
    for seed in (0, 0, 1):
        network = Seen()
        torch.manual_seed(seed)
        MIXES[name](network)(batch(), Plain()(batch(), 0)[1])
        seen.append(network.images[0])
    assert torch.equal(seen[0], seen[1]) and not torch.equal(seen[0], seen[2])


def test_it_begins_at_its_step_and_two_mixings_add_up() -> None:
    def mix(batch: Batch, outputs: Outputs) -> Losses:
        return {"mixed_classification": torch.tensor(3.0)}

    both = Mixing(Mixing(Plain(), 2, 1.0, mix), 4, 0.5, mix)
    assert [both(batch(), step)[0].get("mixed_classification") for step in (1, 2, 4)] == [None, 3.0, 4.5]


def test_one_image_alone_is_refused_and_before_anything_runs(image_set: Path) -> None:
    with pytest.raises(WrongInput, match="at least two images in each part of a batch, and this part has one"):
        Mixing(Plain(), 0, 1.0, MIXES["cutmix"](Seen()))(batch(1), 0)
    for workers, right in ((1, "cam.batch=2"), (2, "cam.batch=4")):
        told = f"leaves 1 to each part of a batch, which needs 2 images; it takes {right}"
        with pytest.raises(WrongInput, match=told):
            refuse_run(planned(image_set, f"cam.batch={workers}", f"training.workers={workers}", method="cam+cutmix"))
    refuse_run(planned(image_set, "cam.batch=2", method="cam+cutmix"))


def test_a_mixing_that_would_never_begin_is_refused(image_set: Path) -> None:
    with pytest.raises(WrongInput, match=r"cutmix.begin=3 must be below cam.epochs=3, because cutmix would never begin"):
        refuse_run(planned(image_set, "cam.epochs=3", "cutmix.begin=3", method="cam+cutmix"))
    refuse_run(planned(image_set, "cam.epochs=3", "cutmix.begin=2", method="cam+cutmix"))


def test_labels_of_images_that_are_equal_stay(image_set: Path) -> None:
    """Two equal images with equal labels are mixed to themselves, whatever is drawn."""
    rng = np.random.default_rng(0)
    one = torch.from_numpy(rng.random((1, 3, 8, 8), np.float32))
    own = {"image": one.expand(2, -1, -1, -1), "labels": torch.tensor([[1.0, 0, 1]] * 2)}
    for mix in MIXES.values():
        network = Seen()
        mix(network)(own, {"scores": torch.ones(2, 3, 4, 4)})
        assert torch.equal(network.images[0], own["image"])


HOSTS = ("cam", "recam", "seam", "pmm", "sipe", "mctformer", "recurseed")


@pytest.mark.slow
@pytest.mark.parametrize("host", HOSTS)
def test_every_network_with_class_logits_learns_from_mixtures(host: str, tmp_path: Path) -> None:
    images = write_images(tmp_path / "images", ("red", "blue"))
    bank = f"cda.bank={images / 'SegmentationClass'}"
    expression = f"{host}+cutmix+saliency-grafting+cda"
    stage = next(stage for stage in plan(expression, SEGMENTER, further=(bank,)) if len(stage.add_ons) == 3)
    row = Laboratory(tmp_path / "store", images).made(Case("cda", expression, SEGMENTER, stage, (bank,))).history[0]
    assert row["mixed_classification"] > row.get("classification", 0)  # the sum of three


@pytest.mark.parametrize("host", ["amn", "spatial-bce"])
@pytest.mark.parametrize("name", ["cutmix", "saliency-grafting", "cda"])
def test_networks_that_classify_positions_are_refused_with_the_reason(host: str, name: str, image_set: Path) -> None:
    with pytest.raises(WrongInput, match=f"{name} needs class-logits, which the training of {host} does not provide"):
        planned(image_set, method=f"{host}+{name}")
