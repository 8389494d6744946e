"""Score maps of the networks that losses on positions are added to."""

import pytest
import torch

import backbones
from backbones.resnet import small
from maps.score_maps import foreground_scores, score_map, with_background_score
from methods import amn, cam, recam
from training.stage import Outputs

BATCH = {"image": torch.randn(2, 3, 48, 48), "labels": torch.tensor([[1.0, 0, 1], [0, 1, 0]])}


def outputs_of(objective: torch.nn.Module, batch: dict[str, torch.Tensor]) -> Outputs:
    return objective.eval()(batch, 0)[1]


@pytest.mark.parametrize(
    ("kind", "objective"),
    [
        (cam.Classifier, lambda network: cam.ClassificationObjective(network, "bce")),
        (recam.Reactivated, lambda network: recam.ReactivationObjective(network, 1.0)),
    ],
)
def test_the_mean_of_a_classifier_s_score_map_is_its_logits_and_both_learn(kind: type, objective) -> None:
    network = kind(backbones.build(small, weights="none", frozen_statistics=False), 3)
    outputs = outputs_of(objective(network), BATCH)
    scores = score_map(network, outputs)
    torch.testing.assert_close(scores.mean(dim=(2, 3)), outputs["logits"])
    scores.sum().backward()
    assert network.classifier.weight.grad.any() and next(network.backbone.parameters()).grad.any()


def test_amn_s_score_map_is_its_logits_with_background() -> None:
    network = amn.AMN(backbones.build(small, weights="none", frozen_statistics=True), 3, 0.0)
    batch = BATCH | {"label": torch.zeros(2, 48, 48, dtype=torch.uint8)}
    scores = score_map(network, outputs_of(amn.ConfidentLabelObjective(network, 0.4), batch))
    torch.testing.assert_close(scores, network(batch["image"], batch["labels"]))
    assert scores.shape[1] == 4 and foreground_scores(scores, 3).shape[1] == 3


def test_scores_that_an_objective_gives_are_the_score_map() -> None:
    outputs = {"scores": torch.rand(1, 3, 2, 2), "features": torch.rand(1, 8, 2, 2), "logits": torch.rand(1, 3)}
    assert score_map(torch.nn.Identity(), outputs) is outputs["scores"]


def test_background_of_a_network_without_one_has_the_score_zero() -> None:
    scores = torch.tensor([[[[2.0]], [[-1.0]]]])
    assert with_background_score(scores, 2).flatten().tolist() == [0, 2, -1]
    with_own = torch.cat([torch.full((1, 1, 1, 1), 5.0), scores], dim=1)
    assert with_background_score(with_own, 2) is with_own
