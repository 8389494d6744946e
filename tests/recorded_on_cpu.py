"""Stands for CUDA graphs on a CPU: the operations of a block, done again on the same memory.

Like a CUDA graph it refuses what waits for the device. It cannot tell whether an operation exists for GPUs.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from backbones import graphs

WAITING = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "equal"}  # the process looks at their results


class Recorder(TorchDispatchMode):
    """Notes all operations, their arguments and their results."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, ...]] = []

    def __torch_dispatch__(self, operation: Any, types: Any, given: Any = (), named: Any = None) -> Any:
        name = operation.overloadpacket.__name__
        if name in WAITING or (name == "lift_fresh" and given[0].ndim):  # torch.tensor copies a list to the device
            raise RuntimeError(f"{operation} is not permitted when stream is capturing")
        made = operation(*given, **(named or {}))
        self.operations.append((operation, given, named or {}, made))
        return made


class CPUGraph:
    """Has what `backbones.graphs` uses of `torch.cuda.CUDAGraph`."""

    def __init__(self) -> None:
        self.recorder = Recorder()

    def pool(self) -> None:
        return None

    def replay(self) -> None:
        for operation, given, named, made in self.recorder.operations:
            again = operation(*given, **named)
            for own, new in zip(tree_leaves(made), tree_leaves(again), strict=True):
                if isinstance(own, torch.Tensor) and own.data_ptr() != new.data_ptr():  # equal for views and in-place operations
                    own.copy_(new)


@contextmanager
def recording(graph: CPUGraph, part: nn.Module, pool: None = None) -> Iterator[None]:
    """As `backbones.graphs._recording`; recording computes nothing, so it neither draws random numbers nor changes buffers."""
    before = [buffer.clone() for buffer in part.buffers()]
    with torch.random.fork_rng(devices=[]), graph.recorder:
        yield
    for buffer, values in zip(part.buffers(), before, strict=True):
        buffer.data.copy_(values)  # which saved tensors do not notice


def on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `backbones.graphs` record on the CPU."""
    monkeypatch.setattr(graphs, "_recordable", lambda inputs: all(isinstance(given, torch.Tensor) for given in inputs))
    monkeypatch.setattr(graphs, "_recording", recording)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", CPUGraph)
