"""One update of a training: ours by the loop of the project, the published one by the usual few lines."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import nn
from torch.utils.data import default_collate

from benchmarks.published.bench import Bench
from benchmarks.published.rounds import PRECISIONS, PUBLISHED, Arrays, Form, Stage, length
from training import loop
from training.randomness import generator
from training.stage import Losses, Outputs, Settings, Training
from training.transfer import Batch, to_device

CPU = torch.device("cpu")
# the plain network with the weights of ours, its optimiser, and the losses of the parts of a batch
Plain = Callable[[Training], tuple[nn.Module, torch.optim.Optimizer, Callable[[Batch], Iterable[torch.Tensor]]]]


def step_stage(bench: Bench, name: str, plain: Plain, **records: object) -> Stage:
    """A training stage; its results are the loss and the gradient. Neither loading images nor the checkpoint counts."""
    first = bench.training(name, "float32", **records)
    samples = {item.id: first.sample(item, generator("sample", item.id)) for item in bench.items(first.batch)}
    ours = {
        precision: _ours(bench, name, bench.training(name, precision, **records), precision, samples) for precision in PRECISIONS
    }
    batch = to_device(default_collate(list(samples.values())), CPU)
    return Stage(first.batch, {PUBLISHED: _published(*plain(first), batch), **ours}, apart=length)


def trained(network: nn.Module) -> list[nn.Parameter]:
    """The parameters that are not frozen."""
    return [parameter for parameter in network.parameters() if parameter.requires_grad]


def _published(network: nn.Module, optimiser: torch.optim.Optimizer, losses: Callable, batch: Batch) -> Form:
    def form() -> tuple[Arrays, float]:
        torch.manual_seed(0)
        started = time.process_time()
        optimiser.zero_grad()
        total = 0.0
        for loss in losses(batch):
            loss.backward()
            total += loss.item()
        optimiser.step()
        seconds = time.process_time() - started
        return [torch.tensor(total), _gradient(network)], seconds

    return form


class _Recorded(nn.Module):
    """An objective that notes when it is called first, and its loss."""

    def __init__(self, objective: nn.Module) -> None:
        super().__init__()
        self.objective, self.started, self.loss = objective, 0.0, 0.0

    def forward(self, batch: dict[str, torch.Tensor], step: int) -> tuple[Losses, Outputs]:
        """As the objective."""
        self.started = self.started or time.process_time()
        losses, outputs = self.objective(batch, step)
        self.loss += sum(loss.item() for loss in losses.values())
        return losses, outputs


def _ours(bench: Bench, name: str, training: Training, precision: str, samples: Mapping[str, Batch]) -> Form:
    settings = Settings({**bench.context(name, precision, {}).settings.training.values, "loaders": 0})

    def form() -> tuple[Arrays, float]:
        recorded, ended = _Recorded(training.objective), []
        one = replace(
            training,
            objective=recorded,
            steps=1,
            sample=lambda item, rng: samples[item.id],
            after_step=lambda step: ended.append(time.process_time()),
            finish=None,
        )
        with TemporaryDirectory() as folder:
            run = loop.Run(("benchmark",), Path(folder), settings, CPU)
            loop.train(one, bench.items(training.batch), run)
        return [torch.tensor(recorded.loss), _gradient(training.network)], ended[0] - recorded.started

    return form


def _gradient(network: nn.Module) -> torch.Tensor:
    """The gradient of all parameters, by their names."""
    parameters = [parameter for _, parameter in sorted(network.named_parameters())]
    return torch.cat([parameter.grad.flatten() for parameter in parameters if parameter.grad is not None])
