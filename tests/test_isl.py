"""ISL: its draw and losses against golden vectors and closed forms, and what it does to a training."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from methods.isl import POSTERIORS, ImportanceSampling, Posterior, distribution, drawn, sampled_loss
from tests.golden_vectors import golden
from training.stage import Settings, Training


def test_binomial_is_the_public_code_s_for_its_draws() -> None:
    ref = golden("isl")
    logits, label, posterior = ref["logits"].requires_grad_(), ref["label"], POSTERIORS["binomial"]
    values = posterior.values(logits, label.shape[1])
    torch.testing.assert_close(distribution(values, posterior), ref["pmf"], rtol=1e-5, atol=0)
    for case in range(len(ref["num_samples"])):
        indices = ref[f"indices_{case}"].long()
        torch.testing.assert_close(values.gather(2, indices), ref[f"samples_{case}"])
        loss = sampled_loss(values, label, indices, posterior)
        torch.testing.assert_close(loss, ref[f"loss_{case}"], rtol=1e-5, atol=0)
        (gradient,) = torch.autograd.grad(loss, logits, retain_graph=True)
        assert not gradient[:, 0].any()
        torch.testing.assert_close(gradient[:, 1:], ref[f"grad_{case}"], rtol=0, atol=1e-6)


def expected_loss(values: torch.Tensor, labels: torch.Tensor, posterior: Posterior) -> torch.Tensor:
    """What `sampled_loss` is on average over draws from `distribution`, with values [B,K,N] and multi-hot labels [B,K]."""
    losses = posterior.losses(values, labels[:, :, None].expand_as(values), reduction="none")
    return (distribution(values, posterior) * losses).sum(dim=2).mean()


@pytest.mark.parametrize(("name", "suffix"), [("binomial", ""), ("multinomial", "_multinomial")])
def test_the_expectation_is_the_published_one(name: str, suffix: str) -> None:
    ref, posterior = golden("isl"), POSTERIORS[name]
    logits = ref["logits"].requires_grad_()
    values = posterior.values(logits, ref["label"].shape[1])
    torch.testing.assert_close(distribution(values, posterior), ref[f"pmf{suffix}"], rtol=1e-5, atol=0)
    loss = expected_loss(values, ref["label"], posterior)
    torch.testing.assert_close(loss, ref[f"expected_loss{suffix}"], rtol=1e-5, atol=0)
    if not suffix:
        (gradient,) = torch.autograd.grad(loss, logits)
        torch.testing.assert_close(gradient[:, 1:], ref["expected_grad"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", POSTERIORS)
def test_the_mean_over_draws_is_the_expectation(name: str) -> None:
    ref, posterior = golden("isl"), POSTERIORS[name]
    torch.manual_seed(0)
    values = posterior.values(ref["logits"], ref["label"].shape[1])
    found = [sampled_loss(values, ref["label"], drawn(distribution(values, posterior), 10), posterior) for _ in range(400)]
    mean, error = torch.stack(found).mean(), torch.stack(found).std() / 20
    assert (mean - expected_loss(values, ref["label"], posterior)).abs() < 4 * error
    if name == "binomial":
        assert (mean - ref["mc_mean_N10"]).abs() < 4 * (error + ref["mc_stderr_N10"])
        torch.testing.assert_close(torch.stack(found).var() * 10, ref["loss_variance_N1"], rtol=0.25, atol=0)


@given(
    st.integers(0, 999),
    st.integers(1, 3),
    st.integers(1, 4),
    st.integers(1, 5),
    st.integers(1, 6),
    st.sampled_from([*POSTERIORS]),
)
def test_all_positions_drawn_by_their_weight_give_the_expectation(
    seed: int, images: int, classes: int, height: int, width: int, name: str
) -> None:
    """Each position once, with its share of the distribution as the weight, is the closed form, for scores of any size."""
    rng, posterior = np.random.default_rng(seed), POSTERIORS[name]
    scores = torch.from_numpy(rng.normal(0, 20, (images, classes, height, width)).astype(np.float32))
    labels = torch.from_numpy(rng.integers(0, 2, (images, classes)).astype(np.float32))
    values = posterior.values(scores, classes)
    pmf = distribution(values, posterior)
    torch.testing.assert_close(pmf.sum(dim=2), torch.ones(images, classes))
    total = sum(
        weight * sampled_loss(value[None, None, None], label[None, None], torch.zeros(1, 1, 1, dtype=torch.long), posterior)
        for value, weight, label in zip(
            values.flatten(), pmf.flatten(), labels[:, :, None].expand_as(values).flatten(), strict=True
        )
    )
    torch.testing.assert_close(total / (images * classes), expected_loss(values, labels, posterior), rtol=1e-4, atol=1e-6)


def test_a_class_is_drawn_where_it_scores_high_and_evenly_where_all_is_equal() -> None:
    posterior = POSTERIORS["binomial"]
    scores = torch.full((1, 2, 4, 4), -30.0)
    scores[0, 0, 1, 2] = 5
    indices = drawn(distribution(posterior.values(scores, 2), posterior), 1000)
    assert (indices[0, 0] == 6).float().mean() > 0.99
    assert len(indices[0, 1].unique()) == 16


class Fixed(torch.nn.Module):
    """An objective with given losses and a fixed score map."""

    def __init__(self, losses: dict[str, torch.Tensor], scores: torch.Tensor) -> None:
        super().__init__()
        self.losses, self.scores = losses, scores

    def forward(self, batch: dict[str, torch.Tensor], step: int) -> tuple[dict, dict]:
        return self.losses, {"scores": self.scores}


def sampling(losses: dict[str, torch.Tensor], scores: torch.Tensor, **settings: object) -> ImportanceSampling:
    values = {"weight": 0.2, "samples": 10, "posterior": "binomial", "factor": 1.0} | settings
    made = Fixed(losses, scores)
    return ImportanceSampling(Training(made, made, *[None] * 3, 1, 1), Settings(values))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["classification", "pixel_classification"])
def test_it_takes_a_share_of_the_classification_loss_and_leaves_the_others(name: str) -> None:
    scores, labels = torch.zeros(2, 3, 4, 4), torch.tensor([[1.0, 0, 0], [0, 1, 1]])
    losses = {"another": torch.tensor(3.0), name: torch.tensor(2.0)}
    found, outputs = sampling(losses, scores, factor=0.5)({"labels": labels}, 0)
    assert found["another"] == 3 and outputs["scores"] is scores
    torch.testing.assert_close(found[name], torch.tensor(1.6))
    torch.testing.assert_close(found["importance_sampling"], 0.2 * 0.5 * torch.tensor(2.0).log())  # every position is undecided


def test_a_step_without_a_classification_loss_stays_as_it_is() -> None:
    losses = {"threshold": torch.tensor(3.0)}  # Spatial-BCE has such steps
    found, _ = sampling(losses, torch.zeros(1, 2, 4, 4))({"labels": torch.ones(1, 2)}, 0)
    assert found == losses


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_scores_that_are_not_finite_make_a_loss_that_is_not_which_the_loop_reports(posterior: str) -> None:
    scores = torch.zeros(1, 2, 3, 3)
    scores[0, 0] = torch.nan
    losses, _ = sampling({"classification": torch.tensor(1.0)}, scores, posterior=posterior)({"labels": torch.ones(1, 2)}, 0)
    assert losses["importance_sampling"].isnan()


def test_a_step_draws_again_what_it_drew_before() -> None:
    torch.manual_seed(1)
    objective = sampling({"classification": torch.tensor(0.0)}, torch.randn(2, 3, 8, 8))
    batch = {"labels": torch.ones(2, 3)}

    def loss(seed: int) -> float:
        torch.manual_seed(seed)
        return objective(batch, 0)[0]["importance_sampling"].item()

    assert loss(2) == loss(2) != loss(3)
