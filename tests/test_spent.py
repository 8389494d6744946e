"""The cost of work: CPU seconds add up, memory is the peak of one process, and earlier work does not count."""

import sys

import numpy as np
import pytest
import torch

from orchestrator.engine.spent import Meter, Spent


def test_cpu_seconds_add_up_and_of_memory_the_most_counts() -> None:
    assert Spent(1, 5, 0) + Spent(2, 3, 7) == Spent(3, 5, 7)


def test_what_the_system_does_not_tell_is_none() -> None:
    assert Spent(1.5).figures() == {"cpu": 1.5, "memory": None, "gpu_memory": None}


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the peak of a part of a process's life")
def test_the_peak_is_that_of_the_measured_work_alone() -> None:
    def peak(megabytes: int) -> float:
        meter = Meter(torch.device("cpu"))
        held = np.ones(megabytes << 17)
        return meter.spent().memory + 0 * held[0]

    large, small = peak(400), peak(1)
    assert 300e6 < large - small < 500e6
