"""Tests for every training of a network."""

import copy
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from backbones import Backbone
from tests.contracts.cases import Case, every
from tests.contracts.laboratory import Laboratory, Made, Trained, check_alike, same
from tests.contracts.recorded import check_recorded
from tests.contracts.two_processes import train_in_two
from tests.recorded_on_cpu import on_cpu
from training.loop import Stopped

CASES = every("train")


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


@pytest.fixture(scope="module")
def made(laboratory: Laboratory, case: Case) -> Made:
    return laboratory.made(case)


@pytest.fixture(scope="module")
def again(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """The training once more, stopped after one step and resumed, in a process that has drawn other random numbers before."""
    torch.manual_seed(99)
    folder = tmp_path_factory.mktemp("again")
    with pytest.raises(Stopped, match="stopped at step 1 of 2"):
        made.again(folder, stop_at=1)
    return made.again(folder)


def check_history(history: list[dict[str, float]]) -> None:
    """One row for the one epoch of a tiny training, with finite losses."""
    (row,) = history
    assert row["epoch"] == 1 and len(row) > 1
    assert all(np.isfinite(value) for value in row.values()), row


def test_stopped_and_resumed_it_ends_with_the_bits_that_its_random_seed_gives(made: Made, again: Trained) -> None:
    assert same(again.weights, made.weights) and again.history == made.history
    check_history(again.history)


def test_another_random_seed_gives_other_weights(made: Made, tmp_path: Path) -> None:
    assert not same(made.again(tmp_path, random_seed=1).weights, made.weights)


def test_it_learns_what_its_recipe_trains_and_nothing_that_is_not_finite(again: Trained) -> None:
    training = again.training
    trained = {id(value) for group in training.optimiser.param_groups for value in group["params"]}
    own = {name: value for name, value in training.network.named_parameters() if id(value) in trained}
    assert own, "the optimiser holds nothing of the network that is delivered"
    assert all(torch.isfinite(value).all() for value in training.network.state_dict().values())
    assert trained <= {id(value) for value in training.objective.parameters()}, "what is not in the objective is not checkpointed"


def test_recorded_calls_compute_what_the_kernels_one_by_one_do(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_cpu(monkeypatch)
    check_recorded(made, "cpu", tmp_path, monkeypatch)


def test_its_readers_get_the_same_from_the_network_that_was_saved(
    laboratory: Laboratory, case: Case, made: Made, again: Trained
) -> None:
    kept = copy.deepcopy(again.training.network).eval().requires_grad_(False)
    assert same(made.network().state_dict(), made.weights)
    for reader in laboratory.readers(case):
        stage = laboratory.made(reader)
        word = next(word for word, source in reader.stage.inputs.items() if source.name == case.stage.name)
        saved, one = stage.one(), stage.one(**{word: kept})  # the saved one with its batch norms folded
        for part in list(stage.job.parts())[:3]:
            check_alike(saved(part), one(part))


def test_its_network_can_do_what_its_recipe_says(made: Made) -> None:
    network, images, classes = made.network(), torch.randn(2, 3, 33, 70), len(made.job.classes)
    provided = set(made.job.recipe.provides)
    with torch.no_grad():
        assert ("backbone" in provided) <= isinstance(getattr(network, "backbone", None), Backbone)
        if "features" in provided:
            features = network.features(images)
            assert features.ndim == 4 and features.shape[:2] == (2, network.backbone.channels[-1])
        if "class-weights" in provided:
            assert network.chosen_weights().shape == (classes, network.backbone.channels[-1])
        if "class-logits" in provided:
            assert network(images).shape == (2, classes)
        if "class-probability" in provided:
            vectors = torch.randn(5, network.backbone.channels[-1])
            shares = network.probability(vectors, classes - 1)
            assert shares.shape == (5,) and ((shares >= 0) & (shares <= 1)).all()
            torch.testing.assert_close(network.probability(vectors[:1], classes - 1), shares[:1])
        if "decoder" in provided:
            logits = network.decode(images)
            assert logits.ndim == 4 and logits.shape[:2] == (2, classes + 1)


def test_its_samples_can_be_sent_to_the_processes_that_load_images(made: Made, again: Trained) -> None:
    training = again.training
    sent = pickle.loads(pickle.dumps(training.sample))
    for example in training.examples(made.job.items, np.random.default_rng(0)):
        assert same(*(sample(example, np.random.default_rng(1)) for sample in (training.sample, sent)))


def test_images_of_one_class_and_of_none_train_it(one_class: Laboratory, case: Case) -> None:
    check_history(one_class.made(case).history)


@pytest.mark.slow
def test_two_loaders_give_the_weights_of_none(made: Made, tmp_path: Path) -> None:
    assert same(made.again(tmp_path, changed={"training.loaders": 2}).weights, made.weights)


@pytest.mark.slow
def test_two_workers_end_with_one_set_of_weights_and_may_be_stopped(laboratory: Laboratory, tmp_path: Path) -> None:
    jobs = {case.name: laboratory.made(case) for case in CASES}
    for name, (first, second, resumed) in train_in_two(jobs, tmp_path).items():
        assert same(first["parameters"], second["parameters"]), name
        assert first["history"] == second["history"], name
        check_history(first["history"])
        assert same(resumed["parameters"], first["parameters"]) and resumed["history"] == first["history"], name
