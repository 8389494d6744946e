"""What each worker asks Ray for: never more than a node has; what cannot be had is refused instead of waited for."""

from types import SimpleNamespace

import pytest

from imagesets.errors import WrongInput
from orchestrator.engine import capacity
from orchestrator.engine.capacity import fitting, gpu_task, loaders, task_cpus, worker_needs

HEAD = {"CPU": 64.0, "memory": 1e11}


def test_a_worker_gets_at_most_the_cpus_of_its_node() -> None:
    assert worker_needs(1, 4, [{"CPU": 8.0}]) == (4, {})
    assert worker_needs(2, 4, [{"CPU": 2.0}, {"CPU": 2.0}]) == (2, {})
    assert worker_needs(2, 4, [{"CPU": 4.0}]) == (2, {})


def test_workers_with_gpus_take_their_cpus_from_the_nodes_that_have_gpus() -> None:
    assert worker_needs(4, 8, [HEAD, {"CPU": 4.0, "GPU": 4.0}]) == (1, {"GPU": 1})
    assert worker_needs(2, 8, [HEAD, {"CPU": 16.0, "GPU": 2.0}]) == (8, {"GPU": 1})


def test_a_worker_gets_cpus_for_the_processes_that_load_its_images() -> None:
    assert worker_needs(1, 2, [{"CPU": 8.0}], loaders=3) == (5, {})
    assert worker_needs(1, 1, [HEAD, {"CPU": 16.0, "GPU": 1.0}], loaders=None) == (9, {"GPU": 1})
    assert worker_needs(4, 1, [{"CPU": 16.0, "GPU": 4.0}], loaders=None) == (4, {"GPU": 1})
    assert worker_needs(2, 1, [{"CPU": 8.0}], loaders=None) == (1, {})


def test_loaders_take_the_cores_that_are_free_beside_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    free = SimpleNamespace(free=16 << 30)
    monkeypatch.setattr(capacity.shutil, "disk_usage", lambda path: free)
    assert [loaders(cores, threads=1, gpu=True) for cores in (1, 4, 16)] == [0, 3, 8]
    assert loaders(4, threads=8, gpu=True) == 0
    assert loaders(16, threads=1, gpu=False) == 0  # the training needs them itself
    free.free = 300 << 20  # a container has little shared memory
    assert loaders(16, threads=1, gpu=True) == 2


def test_workers_on_uneven_nodes_get_what_the_smaller_node_has() -> None:
    assert worker_needs(3, 3, [{"CPU": 5.0}, {"CPU": 4.0}]) == (2, {})


@pytest.mark.parametrize(
    ("nodes", "told"), [([HEAD, {"CPU": 8.0, "GPU": 1.0}], "1 GPUs"), ([{"CPU": 1.0}, {"CPU": 0.0}], "1 CPUs")]
)
def test_more_than_the_cluster_has_is_refused(nodes: list[dict[str, float]], told: str) -> None:
    with pytest.raises(WrongInput, match=f"training.workers=2, but the cluster has {told}"):
        worker_needs(2, 1, nodes)


def test_a_per_image_task_takes_a_cpu_per_thread_and_at_most_those_of_a_node() -> None:
    assert task_cpus([{"CPU": 8.0}], 1, False) == 1 and task_cpus([{"CPU": 8.0}, {"CPU": 2.0}], 4, False) == 4
    assert task_cpus([{"CPU": 2.0}], 4, False) == 2 and task_cpus([HEAD, {"CPU": 4.0, "GPU": 2.0}], 8, True) == 4
    assert fitting([{"CPU": 8.0}, {"CPU": 2.0}], 4, False) == 2 and fitting([HEAD, {"CPU": 4.0, "GPU": 2.0}], 4, True) == 1


def test_tasks_with_a_network_share_a_gpu_if_there_are_cpus_for_two() -> None:
    assert gpu_task([HEAD, {"CPU": 16.0, "GPU": 1.0}], 1, many=False) == (3, 0.5)
    assert gpu_task([HEAD, {"CPU": 16.0, "GPU": 1.0}], 1, many=True) == (8, 0.5)
    assert gpu_task([{"CPU": 64.0, "GPU": 8.0}, {"CPU": 8.0, "GPU": 2.0}], 1, many=True) == (2, 0.5)  # as on the smaller node
    assert gpu_task([{"CPU": 3.0, "GPU": 1.0}], 1, many=False) == (3, 1.0)
    assert gpu_task([{"CPU": 4.0, "GPU": 8.0}], 1, many=True) == (1, 1.0)
    assert gpu_task([{"CPU": 16.0, "GPU": 1.0}], 6, many=False) == (6, 0.5)
    assert fitting([{"CPU": 16.0, "GPU": 2.0}], 3, 0.5) == 4 and fitting([{"CPU": 7.0, "GPU": 2.0}], 3, 0.5) == 2
