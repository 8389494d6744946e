"""The cores that a process may use."""

import os
from pathlib import Path

import pytest

from orchestrator.cores import cores


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a process of eight cores reads of its control group, /jobs/one."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {*range(8)}, raising=False)
    (tmp_path / "own").write_text("0::/jobs/one\n")
    (tmp_path / "groups/jobs/one").mkdir(parents=True)
    return tmp_path / "own"


def limit(own: Path, file: str, text: str) -> None:
    path = own.with_name("groups") / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")


def test_without_a_quota_they_are_those_that_the_process_is_bound_to(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit(own, "cpu.max", "max 100000")
    limit(own, "cpu/cpu.cfs_quota_us", "-1")
    assert cores(own.with_name("groups"), own) == cores(own.with_name("none"), own.with_name("nothing")) == 8
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3})
    assert cores(own.with_name("groups"), own) == 1


@pytest.mark.parametrize(
    ("quota", "expected"), [("200000 100000", 2), ("150000 100000", 2), ("5000 100000", 1), ("6400000 100000", 8)]
)
@pytest.mark.parametrize("file", ["cpu.max", "jobs/cpu.max", "jobs/one/cpu.max"])
def test_a_quota_of_the_group_or_one_above_it_limits_them(own: Path, file: str, quota: str, expected: int) -> None:
    limit(own, file, quota)
    assert cores(own.with_name("groups"), own) == expected


def test_the_smallest_quota_counts_and_one_beside_the_group_does_not(own: Path) -> None:
    limit(own, "jobs/one/cpu.max", "500000 100000")
    limit(own, "jobs/cpu.max", "300000 100000")
    limit(own, "jobs/two/cpu.max", "100000 100000")
    assert cores(own.with_name("groups"), own) == 3


def test_a_container_whose_group_is_the_root_of_what_it_sees(own: Path) -> None:
    own.write_text("0::/\n")
    limit(own, "cpu.max", "400000 100000")
    assert cores(own.with_name("groups"), own) == 4


def test_a_quota_of_control_groups_of_version_1(own: Path) -> None:
    own.write_text("4:cpu,cpuacct:/docker/abc\n")
    limit(own, "cpu/cpu.cfs_quota_us", "250000")
    limit(own, "cpu/cpu.cfs_period_us", "100000")
    assert cores(own.with_name("groups"), own) == 3
