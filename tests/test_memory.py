"""Kept memory: freed tensors leave their pages to later ones, and the end of the last block returns them."""

import platform
import resource

import psutil
import pytest
import torch

from training.memory import kept_memory

SIZE = 36 << 20  # bytes of each tensor: more than glibc keeps by itself
pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="memory is kept with glibc's allocator alone")


def faults(steps: int) -> int:
    """The pages that the system hands out during forward and backward passes through four large tensors."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(steps):
        tensor = torch.ones(SIZE // 4, requires_grad=True)
        tensor.relu().neg().relu().sum().backward()
        del tensor
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def resident() -> int:
    return psutil.Process().memory_info().rss


def test_pages_are_used_again_within_the_block_alone():
    with kept_memory():
        faults(6)  # until the kept places fit
        within = faults(3)
    assert within < faults(3) / 4


def test_the_end_of_the_last_block_returns_the_memory():
    with kept_memory():
        with kept_memory():
            faults(1)
        kept = resident()  # the inner block has ended
    assert resident() < kept - SIZE
