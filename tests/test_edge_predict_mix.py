"""EdgePredictMix and ClassMix: what a decoder predicts is pasted on another image, with labels and recursion maps."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from imagesets.errors import WrongInput
from methods import classmix
from methods.classmix import ClassMix, drawn_classes, drawn_mask, mixed_labels
from methods.edge_predict_mix import Learning, Predicting, Targets, foreground, mix, mixed, named
from methods.recurseed_targets import Making, recursion_loss, recursion_problems
from orchestrator.engine.checks import check_imports
from orchestrator.planning.refusals import refuse_run
from tests.golden_vectors import golden
from tests.planned_run import planned
from training.mixing import pasted
from training.stage import Context, Losses, Settings


def targets(seed: int, count: int = 3, classes: int = 3, size: tuple[int, int] = (5, 6)) -> Targets:
    """Random images at four times the size of their labels and maps; labels are of the images' own classes."""
    rng = np.random.default_rng(seed)
    own = rng.integers(0, 2, (count, classes)).astype(np.float32)
    codes = [rng.choice([0, 255, *(np.flatnonzero(row) + 1)], size) for row in own]
    images = rng.random((count, 3, 4 * size[0], 4 * size[1]), np.float32)
    maps = rng.random((count, classes, *size), np.float32)
    return Targets(*map(torch.from_numpy, (images, np.stack(codes), maps, own)))


def test_mixing_is_that_of_the_equations() -> None:
    ref = golden("epm_mix")
    labels = ref["m_ep"].long()
    mask = foreground(labels)
    assert torch.equal(mask.byte(), ref["fg_mask"])
    own = Targets(ref["image"], labels, ref["m_rs"], torch.ones(ref["m_rs"].shape[:2]))
    found = mixed(own, ref["partner"].long(), mask)
    assert torch.equal(found.images, ref["image_mix"]) and torch.equal(found.labels.int(), ref["m_seg_mix"])
    torch.testing.assert_close(found.recursion, ref["m_rs_mix"], rtol=0, atol=1e-7)


@given(st.integers(0, 999))
def test_an_empty_mask_gives_the_other_image_and_a_full_one_the_image_itself(seed: int) -> None:
    own, order = targets(seed), torch.tensor([1, 2, 0])
    for full, expected in ((False, [part[order] for part in own[:3]]), (True, [*own[:3]])):
        found = mixed(own, order, torch.full((3, 5, 6), full))
        assert all(torch.equal(part, other) for part, other in zip(found[:3], expected, strict=True))


@given(st.integers(0, 999))
def test_a_label_never_appears_that_neither_image_has(seed: int) -> None:
    own, order = targets(seed), torch.tensor([2, 0, 0])
    found = mixed(own, order, foreground(own.labels))
    for place, other in enumerate(order.tolist()):
        codes = set(found.labels[place].unique().tolist())
        assert codes <= {
            *own.labels[place].tolist()[0],
            *own.labels[place].unique().tolist(),
            *own.labels[other].unique().tolist(),
        }
        assert {code - 1 for code in codes - {0, 255}} <= set(found.classes[place].nonzero()[:, 0].tolist())
    assert torch.equal(found.classes, torch.maximum(own.classes, own.classes[order]))


def test_a_mask_of_the_grid_cuts_the_image_into_blocks() -> None:
    own, order = targets(0), torch.tensor([1, 0, 0])
    mask = foreground(own.labels)
    large = mask.repeat_interleave(4, 1).repeat_interleave(4, 2)
    assert torch.equal(mixed(own, order, mask).images, pasted(own.images, own.images[order], large))


def test_places_among_an_image_s_classes_get_the_names_of_all() -> None:
    found = named(torch.tensor([[[0, 1], [2, 255]], [[1, 1], [0, 2]]]), torch.tensor([[4, 2], [0, 9]]))
    assert found.tolist() == [[[0, 5], [3, 255]], [[1, 1], [0, 10]]]


def batch(count: int = 2, side: int = 32) -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(3)
    images = torch.from_numpy(rng.normal(size=(count, 3, side, side)).astype(np.float32))
    valid = torch.tensor([[0, 0, side, side], [8, 4, side, side - 8]])
    return {"image": images, "labels": torch.tensor([[1.0, 0, 0], [0, 1, 1]]), "valid": valid}


def square(classes: int = 3, value: float = 20.0) -> torch.Tensor:
    """A decoder that is sure of class 0 in a square of image 0, of class 2 in one of image 1, and else of background."""
    decoded = torch.zeros(2, 1 + classes, 8, 8)
    decoded[:, 0] = value
    decoded[0, 1, 2:5, 2:5] = decoded[1, 3, 4:7, 3:5] = 2 * value
    return decoded


PLAIN = Making(refine=None)


@pytest.mark.parametrize("upsampling", [1, 4])
@pytest.mark.parametrize("relabel", [True, False])
def test_what_a_decoder_is_sure_of_is_its_label_and_padding_is_unknown(upsampling: int, relabel: bool) -> None:
    predicting = Predicting(PLAIN, relabel, "max", upsampling)
    found = predicting(square(), batch())
    assert found.shape == (2, 8 * upsampling, 8 * upsampling) and found.dtype == torch.int64
    inside = found[:, ::upsampling, ::upsampling] if upsampling == 1 else found[:, 2::4, 2::4]
    assert (inside[0, 2:5, 2:5] == 1).all() and (inside[1, 4:7, 3:5] == 3).all()
    valid = torch.zeros(2, 8, 8, dtype=torch.bool)
    valid[0], valid[1, 2:, 1:6] = True, True
    assert (inside[~valid] == 255).all()
    assert {*found.unique().tolist()} <= {0, 1, 3, 255}  # class 1 of image 1 is nowhere, and class 0 only in image 0


def test_an_image_without_classes_predicts_none_and_shows_the_other_image() -> None:
    own = batch()
    own["labels"] = torch.tensor([[0.0, 0, 0], [0, 0, 1]])
    found = Predicting(PLAIN, True, "classes", 1)(square(), own)
    assert not foreground(found)[0].any() and foreground(found)[1].any()


class Both(nn.Module):
    """A network with given answers, which keeps its images; the answers are its parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.scores, self.decoded = nn.Parameter(torch.rand(2, 3, 4, 4)), nn.Parameter(torch.zeros(2, 4, 8, 8))
        self.dropout, self.images = nn.Dropout(0.5), list[torch.Tensor]()

    def both(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, tuple]:
        self.images.append(images)
        return self.scores, self.decoded, ()

    def decode(self, images: torch.Tensor) -> torch.Tensor:
        return self.dropout(self.decoded)


def learning(network: nn.Module, *losses: str) -> Learning:
    return Learning(network, losses or ("seg", "rec"), ("max", "all"))  # type: ignore[arg-type]


def test_both_losses_are_those_of_the_mixed_targets() -> None:
    network, own = Both(), batch()
    outputs = {"decoded": square(), "recursion": torch.rand(2, 3, 8, 8)}
    torch.manual_seed(0)
    found = mix(own, outputs, Predicting(PLAIN, True, "max", 1), learning(network))
    labels = Predicting(PLAIN, True, "max", 1)(square(), own)
    expected = mixed(Targets(own["image"], labels, outputs["recursion"], own["labels"]), torch.tensor([1, 0]), foreground(labels))
    assert torch.equal(network.images[0], expected.images)
    torch.testing.assert_close(found["mixed_segmentation"].detach(), torch.tensor(4.0).log())  # of a decoder that knows nothing
    torch.testing.assert_close(
        found["mixed_recursion"], recursion_loss(network.scores, expected.recursion, torch.tensor([[1.0, 1, 1]] * 2))
    )
    for name in ("seg", "rec"):
        (one,) = mix(own, outputs, Predicting(PLAIN, True, "max", 1), learning(network, name))
        assert one == {"seg": "mixed_segmentation", "rec": "mixed_recursion"}[name]


def test_without_recursion_nothing_is_mixed() -> None:
    network = Both()
    assert mix(batch(), {"decoded": square()}, Predicting(PLAIN, True, "max", 1), learning(network)) == {}
    assert ClassMix(network, 0.99, 0.968, learning(network))(batch(), {}) == {} and not network.images


def test_a_network_that_never_makes_recursion_maps_is_refused(image_set: Path) -> None:
    for name in ("epm", "classmix", "cda"):
        plan = planned(image_set, "recurseed.losses=[cls]", "backbone.name=small", method=f"recurseed+{name}+none")
        with pytest.raises(WrongInput, match=r"recurseed.losses=\['cls'\] makes no maps that could be mixed"):
            check_imports(plan.steps, plan.images)
    where = Context(Settings({"losses": ["cls"]}), (), (), (), torch.device("cpu"))
    assert "recurseed.losses=['cls'] makes no maps that could be mixed" in recursion_problems(where)[0]
    assert recursion_problems(Context(Settings({"losses": ["cls", "rec"]}), (), (), (), torch.device("cpu"))) == []


@pytest.mark.parametrize("name", ["epm", "classmix"])
def test_a_network_without_a_decoder_and_one_image_alone_are_refused(name: str, image_set: Path) -> None:
    with pytest.raises(WrongInput, match=f"{name} needs recursion and decoder, which the training of cam does not provide"):
        planned(image_set, method=f"cam+{name}")
    with pytest.raises(WrongInput, match=r"recurseed.batch=2 leaves 1 to each part of a batch, which needs 2 images"):
        refuse_run(
            planned(image_set, "recurseed.batch=2", "training.workers=2", f"{name}.begin=0", method=f"recurseed+{name}+none")
        )


def test_classmix_is_that_of_the_public_code() -> None:
    ref = golden("mix_baselines")
    labels = ref["soft"].argmax(dim=1)
    assert torch.equal(labels.int(), ref["argmax"])
    drawn = [picks[picks >= 0].long() for picks in ref["classes_picked"]]
    mask = drawn_mask(labels, drawn)
    assert torch.equal(mask.byte(), ref["mask"])
    order = torch.arange(len(labels)).roll(-1)
    assert torch.equal(pasted(ref["image"], ref["image"][order], mask), ref["image_mix"])
    assert torch.equal(pasted(ref["soft"], ref["soft"][order], mask), ref["soft_mix"])
    pseudo, highest = mixed_labels(ref["soft"], mask, order)
    assert torch.equal(pseudo.int(), ref["pseudo_label"]) and torch.equal(highest, ref["max_prob"])


@given(st.integers(0, 999))
def test_half_of_the_classes_of_an_image_are_drawn_and_all_of_them_give_the_image_itself(seed: int) -> None:
    torch.manual_seed(seed)
    own, order = targets(seed), torch.tensor([1, 2, 0])
    for labels, values in zip(own.labels, drawn_classes(own.labels), strict=True):
        present = set(labels.unique().tolist()) - {255}
        assert len(values) == len(present) // 2 and set(values.tolist()) <= present
    every = [labels.unique() for labels in own.labels]
    found = mixed(own, order, drawn_mask(own.labels, every))
    assert all(torch.equal(part, other) for part, other in zip(found[:3], own[:3], strict=True))


def test_a_teacher_gives_labels_of_its_image_s_classes_and_the_loss_counts_by_its_certainty() -> None:
    network = Both()  # its decoder knows nothing, so every label costs log 4
    own, outputs = batch(), {"recursion": torch.rand(2, 3, 8, 8)}
    module = ClassMix(network, 0.99, 0.968, learning(network)).train()
    assert not module.teacher.dropout.training and network.dropout.training
    costs = []
    for decoded in (square(), square(value=0.0), torch.where(torch.arange(8) < 4, square(), 0)):
        with torch.no_grad():
            module.teacher.decoded.copy_(decoded)
        costs.append(float(module(own, outputs)["mixed_segmentation"].detach()) / np.log(4))
    assert costs[0] == pytest.approx(1) and costs[1] == 0 and 0.3 < costs[2] < 0.7
    soft, inside = module.predicted(own)
    assert not soft[0, 2:].any() and not soft[1, 1].any() and inside.sum() == 64 + 30


def test_the_teacher_begins_as_the_network_and_then_follows_it_more_and_more_slowly() -> None:
    network = nn.Linear(2, 2)
    module = ClassMix(network, 0.9, 0.968, learning(network))
    shares = []
    for steps in (0, 1, 3, 99):
        with torch.no_grad():
            network.weight.fill_(1.0)
            module.teacher.weight.fill_(0.0)
        module.follow(network, steps)
        shares.append(round(float(module.teacher.weight.mean()), 5))
    assert shares == [1.0, 0.5, 0.25, 0.1]
    assert all(not values.requires_grad for values in module.teacher.parameters())
    assert not any(name.startswith("learning") for name in module.state_dict())  # the network is in the objective already


def test_a_loss_of_the_mixtures_has_its_own_name_in_every_form() -> None:
    losses: Losses = learning(Both())(
        Targets(batch()["image"], torch.zeros(2, 8, 8).long(), torch.rand(2, 3, 8, 8), torch.ones(2, 3))
    )
    assert set(losses) == {"mixed_segmentation", "mixed_recursion"} and classmix.VOID == 255
