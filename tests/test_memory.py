"""Kept memory: freed tensors leave their pages to later ones, and the end of the last block returns them."""

import json
import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="memory is kept with glibc's allocator alone")
SIZE = 36 << 20  # bytes of each tensor: more than glibc keeps by itself
MEASURED = f"""
import json, resource
import psutil, torch
from training.memory import kept_memory

def faults(steps):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(steps):
        tensor = torch.ones({SIZE} // 4, requires_grad=True)
        tensor.relu().neg().relu().sum().backward()
        del tensor
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

torch.set_num_threads(1)
with kept_memory():
    with kept_memory():
        faults(12)  # until the kept places fit
    within, kept = faults(3), psutil.Process().memory_info().rss
print(json.dumps([within, kept, psutil.Process().memory_info().rss, faults(3)]))
"""


def test_pages_are_used_again_within_the_block_alone_and_returned_at_its_end() -> None:
    """In a process of its own, because what a process has freed before decides which places fit."""
    told = subprocess.run([sys.executable, "-c", MEASURED], capture_output=True, text=True, check=True).stdout
    within, kept, returned, outside = json.loads(told)
    assert within < outside / 2
    assert returned < kept - SIZE
