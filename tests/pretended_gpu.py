"""Stands for a GPU on a CPU: tensors say that they lie on it, and what mixes them with those of the CPU fails as on a GPU.

The CPU computes their values. Streams and the kernels of real GPUs are for `make test-gpu`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn
from unittest.mock import Mock, patch

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

NAME = "cuda:0"
BETWEEN = {"copy_", "_to_copy", "to"}  # operations that take tensors of two devices
INDEXING = {"index", "index_put_", "index_put", "_index_put_impl_", "_unsafe_index"}  # their indices may lie on the CPU


class OnGPU(torch.Tensor):
    """A tensor on the pretended GPU, whose values `inner` has."""

    __torch_function__ = torch._C._disabled_torch_function_impl
    device = property(lambda self: torch.device(NAME))
    is_cuda, is_meta, is_cpu = True, False, False

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> "OnGPU":
        # torch has device guards for its device without values alone, where it was built for no GPU
        like = {"strides": inner.stride(), "storage_offset": inner.storage_offset(), "dtype": inner.dtype, "device": "meta"}
        with torch.inference_mode(inner.is_inference()):  # views of other tensors are none of that mode
            own: OnGPU = torch.Tensor._make_wrapper_subclass(cls, inner.size(), **like)
        own.inner = inner
        return own

    @classmethod
    def __torch_dispatch__(cls, operation: Any, types: Any, given: Any = (), named: Any = None) -> Any:
        return compute(operation, given, named or {})

    def __deepcopy__(self, memo: dict[int, Any]) -> torch.Tensor:
        made = OnGPU(self.inner.detach().clone())
        memo[id(self)] = torch.nn.Parameter(made, self.requires_grad) if isinstance(self, torch.nn.Parameter) else made
        return memo[id(self)]

    def __reduce_ex__(self, protocol: Any) -> Any:
        return OnGPU, (self.inner.detach(),)

    def tolist(self) -> Any:
        return self.inner.tolist()

    def numpy(self, *given: Any, **named: Any) -> NoReturn:
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    __array__ = numpy


def compute(operation: Any, given: Any, named: dict[str, Any]) -> Any:
    """The result of an operation of torch. It lies where the operation says, else on the GPU if one of the tensors does."""
    name = operation.overloadpacket.__name__
    tensors = [leaf for leaf in tree_leaves((given, named)) if isinstance(leaf, torch.Tensor)]
    there = any(isinstance(tensor, OnGPU) for tensor in tensors)
    if there and name not in BETWEEN:
        own, *rest = tensors
        held = [own, *rest[-1:]] if "put" in name else [own] if name in INDEXING else tensors
        if any(tensor.ndim and not isinstance(tensor, OnGPU) for tensor in held):
            raise RuntimeError(f"{operation}: expected all tensors to be on the same device, but found {NAME} and cpu")
    if name == "copy_":
        there = isinstance(given[0], OnGPU)
    if named.get("device") is not None:
        there = torch.device(named["device"]).type != "cpu"
        named = {**named, "device": "cpu"}
    known = {id(tensor.inner): tensor for tensor in tensors if isinstance(tensor, OnGPU)}
    given, named = tree_map_only(OnGPU, lambda tensor: tensor.inner, (given, named))
    made = operation(*given, **named)
    if not there:  # a copy, as from another device
        return tree_map_only(torch.Tensor, lambda tensor: tensor.clone() if id(tensor) in known else tensor, made)
    return tree_map_only(torch.Tensor, lambda tensor: known[id(tensor)] if id(tensor) in known else OnGPU(tensor), made)


class _Computing(TorchDispatchMode):
    """Serves operations that make tensors from nothing."""

    def __torch_dispatch__(self, operation: Any, types: Any, given: Any = (), named: Any = None) -> Any:
        return compute(operation, given, named or {})


def _then_copied(make: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """`torch.tensor` or `torch.as_tensor`, which copy to the device where no mode sees it."""

    def made(data: Any, dtype: Any = None, device: Any = None) -> torch.Tensor:
        return make(data, dtype=dtype).to(device)

    return made


@contextmanager
def pretended_gpu() -> Iterator[str]:
    """The name of the device, which exists within the block."""
    torch.__future__.set_swap_module_params_on_conversion(True)  # optimisers keep the parameters of networks that move
    try:
        with (
            patch.object(torch.cuda, "_lazy_init", lambda: None),
            patch.object(torch.cuda, "mem_get_info", lambda device: (2**30, 2**30)),
            patch.object(torch.cuda, "Event", Mock),
            patch.object(torch.Tensor, "pin_memory", lambda tensor: tensor),
            patch.object(torch, "tensor", _then_copied(torch.tensor)),
            patch.object(torch, "as_tensor", _then_copied(torch.as_tensor)),
            _Computing(),
        ):
            yield NAME
    finally:
        torch.__future__.set_swap_module_params_on_conversion(False)
