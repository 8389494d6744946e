"""Calls of a network's heavy parts as CUDA graphs: a training starts two graphs in place of some hundred kernels.

A process needs about as long to start the kernels of a ResNet-50 one by one as an H200 needs to compute them, and longer if other
threads want Python's lock. A graph is recorded once; starting it takes no time that depends on its kernels.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.utils import _pytree as tree

from backbones.precision import MixedPrecision
from imagesets.errors import WrongInput

MOST = 16  # graphs of one training; each keeps the memory that its call needs
Compute = Callable[..., Any]


class Graphs:
    """Records the calls of the heavy parts of an objective in training, and replays them.

    A call is recorded when an earlier step has made it with tensors of the same shapes and the same parameters that learn: what
    libraries prepare at a first call cannot be recorded. One graph serves one call in a step, because the next call would
    overwrite what its backward pass needs. Calls on a CPU, of tokens, or beyond MOST graphs are computed as always.
    """

    def __init__(self) -> None:
        self.recorded: dict[tuple[object, ...], list[Graph]] = {}
        self.met: set[tuple[object, ...]] = set()
        self.calls: Counter[tuple[object, ...]] = Counter()  # of this step

    @contextmanager
    def serving(self, objective: nn.Module) -> Iterator[None]:
        """Serve the calls of the objective's heavy parts within the block, and free all memory after it."""
        parts = [module for module in objective.modules() if isinstance(module, MixedPrecision)]
        for part in parts:
            part.graphs = self
        try:
            yield
        finally:
            for part in parts:
                part.graphs = None
            self.recorded.clear()

    def begin_step(self) -> None:
        """A step begins, and the calls of the last one are over."""
        self.met.update(self.calls)
        self.calls.clear()

    def __call__(self, part: nn.Module, compute: Compute, inputs: tuple[Any, ...]) -> Any:
        """What `compute(*inputs)` returns, which is the forward pass of a `part`."""
        if not _recordable(inputs):
            return compute(*inputs)
        call = _call(part, inputs)
        graphs, before = self.recorded.setdefault(call, []), self.calls[call]
        self.calls[call] += 1
        if before < len(graphs):
            return graphs[before](inputs)
        if call not in self.met or sum(map(len, self.recorded.values())) >= MOST:
            return compute(*inputs)
        graphs.append(Graph(part, compute, inputs))
        return graphs[before](inputs)


def _recordable(inputs: tuple[Any, ...]) -> bool:
    """Whether a call can be recorded: one on a GPU, and not within a part that is being recorded."""
    on_gpu = all(isinstance(given, torch.Tensor) and given.is_cuda for given in inputs)
    return on_gpu and not torch.cuda.is_current_stream_capturing()


def _call(part: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[object, ...]:
    """What must be equal for a recorded call to be another one's."""
    tensors = tuple((given.shape, given.stride(), given.dtype, given.requires_grad) for given in inputs)
    modes = tuple(module.training for module in part.modules())
    learning = tuple(parameter.requires_grad for parameter in part.parameters())
    return id(part), torch.is_grad_enabled(), tensors, modes, learning


class Graph:
    """One recorded call: its forward and its backward pass, which read and write the same memory each time."""

    def __init__(self, part: nn.Module, compute: Compute, inputs: tuple[torch.Tensor, ...]) -> None:
        self.parameters = [parameter for parameter in part.parameters() if parameter.requires_grad]
        self.inputs = [given.detach().clone().requires_grad_(given.requires_grad) for given in inputs]
        self.forward, self.backward = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
        with _recording(self.forward, part):
            made = compute(*self.inputs)
        outputs, self.form = tree.tree_flatten(made)
        self.gradients = [torch.zeros_like(output) if output.requires_grad else None for output in outputs]
        self.filled = [False] * len(outputs)  # whether a gradient is not all zeros
        learning = [output for output in outputs if output.requires_grad]
        wanted = [tensor for tensor in (*self.inputs, *self.parameters) if tensor.requires_grad]
        found: Iterator[torch.Tensor | None] = iter(())
        if learning:
            with _recording(self.backward, part, self.forward.pool()):
                given = [gradient for gradient in self.gradients if gradient is not None]
                found = iter(torch.autograd.grad(learning, wanted, given, allow_unused=True))
        self.found = [next(found, None) if own.requires_grad else None for own in (*self.inputs, *self.parameters)]
        self.outputs = [output.detach() for output in outputs]

    def __call__(self, inputs: tuple[torch.Tensor, ...]) -> Any:
        """What the call returns for other `inputs`, and for the parameters as they are now."""
        return tree.tree_unflatten(_Replay.apply(self, *inputs, *self.parameters), self.form)


class _Replay(torch.autograd.Function):
    """A recorded call in torch's own graph of gradients."""

    @staticmethod
    def forward(ctx: Any, graph: Graph, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        ctx.graph = graph
        ctx.set_materialize_grads(False)
        for own, given in zip(graph.inputs, tensors, strict=False):  # the parameters follow, and lie where they lay
            own.copy_(given)
        graph.forward.replay()
        outputs = tuple(output.detach() for output in graph.outputs)
        pairs = zip(outputs, graph.gradients, strict=True)
        ctx.mark_non_differentiable(*(output for output, gradient in pairs if gradient is None))
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
        graph: Graph = ctx.graph
        for number, (own, given) in enumerate(zip(graph.gradients, gradients, strict=True)):
            if own is not None and given is not None:
                own.copy_(given)
            elif own is not None and graph.filled[number]:
                own.zero_()
            graph.filled[number] = given is not None
        graph.backward.replay()
        return None, *(None if found is None else found.detach() for found in graph.found)


@contextmanager
def _recording(graph: torch.cuda.CUDAGraph, part: nn.Module, pool: Any = None) -> Iterator[None]:
    """Record in `graph` what the block computes. Other threads, which copy batches to pinned memory, go on."""
    try:
        with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
            yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        why = f"{type(part).__name__} cannot be recorded as a CUDA graph: {str(error).splitlines()[0]}"
        raise WrongInput(f"{why}; set training.graphs to false") from error
