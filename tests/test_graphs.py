"""When calls of heavy parts are recorded and replayed. contracts/test_gpu.py tries what recorded calls compute."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
import torch
from torch import nn

from backbones import graphs
from backbones.precision import MixedPrecision


class Part(MixedPrecision, nn.Linear):
    """A heavy part."""


class Pair(nn.Module):
    """An objective with two heavy parts."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = Part(3, 3), Part(3, 3)


@dataclass
class Recorded:
    """Stands for a recorded call, which returns what the part computes plus 100."""

    part: nn.Module
    compute: graphs.Compute
    inputs: tuple[torch.Tensor, ...]
    replays: int = field(default=0)

    def __call__(self, inputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
        self.replays += 1
        return self.compute(*inputs) + 100


@pytest.fixture
def pair() -> Pair:
    return Pair()


@pytest.fixture
def served(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> Iterator[graphs.Graphs]:
    """Graphs that serve the pair as if the CPU were a GPU."""
    monkeypatch.setattr(graphs, "_recordable", lambda inputs: True)
    monkeypatch.setattr(graphs, "Graph", Recorded)
    own = graphs.Graphs()
    with own.serving(pair):
        yield own


def replayed(part: Part, images: torch.Tensor) -> bool:
    """Whether a call of a part is a replay."""
    return bool((part(images) - nn.functional.linear(images, part.weight, part.bias)).mean() > 50)


def test_a_call_is_recorded_in_the_second_step_that_makes_it(served: graphs.Graphs, pair: Pair) -> None:
    images, seen = torch.rand(2, 3), []
    for _ in range(4):
        served.begin_step()
        seen.append((replayed(pair.first, images), replayed(pair.second, images)))
    assert seen == [(False, False), (True, True), (True, True), (True, True)]
    assert [[graph.replays for graph in of_a_call] for of_a_call in served.recorded.values()] == [[3], [3]]


def test_each_graph_serves_one_call_in_a_step(served: graphs.Graphs, pair: Pair) -> None:
    images = torch.rand(2, 3)
    for calls in (1, 2, 3, 1):
        served.begin_step()
        seen = [replayed(pair.first, images) for _ in range(calls)]
    assert seen == [True]
    ((one, two, three),) = served.recorded.values()
    assert (one.replays, two.replays, three.replays) == (3, 2, 1)


@pytest.mark.parametrize("change", ["shape", "type", "gradients", "frozen", "mode", "no gradients"])
def test_what_differs_is_recorded_by_itself(served: graphs.Graphs, pair: Pair, change: str) -> None:
    images = torch.rand(2, 3)
    for _ in range(2):
        served.begin_step()
        assert replayed(pair.first, images) == bool(served.recorded and any(served.recorded.values()))
    served.begin_step()
    if change == "shape":
        images = torch.rand(4, 3)
    elif change == "type":
        pair.double()
        images = images.double()
    elif change == "gradients":
        images.requires_grad_()
    elif change == "frozen":
        pair.first.weight.requires_grad_(False)
    elif change == "mode":
        pair.eval()
    with torch.set_grad_enabled(change != "no gradients"):
        assert [replayed(pair.first, images), served.begin_step(), replayed(pair.first, images)] == [False, None, True]


def test_further_calls_are_computed_as_always(served: graphs.Graphs, pair: Pair) -> None:
    for _ in range(3):
        served.begin_step()
        seen = [replayed(pair.first, torch.rand(2 + size, 3)) for size in range(graphs.MOST + 3)]
    assert seen == [True] * graphs.MOST + [False] * 3


def test_nothing_serves_a_network_after_its_training(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "_recordable", lambda inputs: pytest.fail("asked after the training"))
    own = graphs.Graphs()
    with pytest.raises(KeyboardInterrupt), own.serving(pair):
        raise KeyboardInterrupt
    pair.first(torch.rand(2, 3))


def test_calls_on_a_cpu_are_computed_as_always(pair: Pair) -> None:
    own, images = graphs.Graphs(), torch.rand(2, 3)
    with own.serving(pair):
        for _ in range(3):
            own.begin_step()
            assert torch.equal(pair.first(images), nn.functional.linear(images, pair.first.weight, pair.first.bias))
    assert not own.met
