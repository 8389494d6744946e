"""Ray's own validator accepts cluster.yaml, and the file has what our clusters need."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

PATH = Path(__file__).parent.parent / "cluster.yaml"


@pytest.fixture
def config() -> dict[str, Any]:
    return yaml.safe_load(PATH.read_text())


@pytest.fixture
def ray_util() -> Any:
    return pytest.importorskip("ray.autoscaler._private.util")  # a private module: a newer Ray may have moved it


def test_ray_accepts_it(config: dict[str, Any], ray_util: Any) -> None:
    prepared = ray_util.prepare_config(config)
    ray_util.validate_config(prepared)
    (node_type,) = prepared["available_node_types"].values()
    assert node_type["min_workers"] == prepared["max_workers"] == len(config["provider"]["worker_ips"])


def test_a_misspelt_key_would_be_refused(config: dict[str, Any], ray_util: Any) -> None:
    wrong = ray_util.prepare_config(copy.deepcopy(config) | {"head_start_commands": []})
    with pytest.raises(Exception, match="head_start_commands"):
        ray_util.validate_config(wrong)


def test_every_node_starts_ray_with_the_same_pinned_authentication(config: dict[str, Any]) -> None:
    (pinned,) = (command for command in config["head_setup_commands"] if command.endswith("> /shared/wsss/ray.env"))
    assert "RAY_AUTH_MODE=token" in pinned and "RAY_AUTH_TOKEN_PATH=/shared/wsss/ray_token" in pinned
    commands = [*config["head_start_ray_commands"], *config["worker_start_ray_commands"], *config["worker_setup_commands"]]
    assert all(command.startswith(". /shared/wsss/ray.env; ") for command in commands)


def test_hosts_are_examples(config: dict[str, Any]) -> None:
    hosts = [config["provider"]["head_ip"], *config["provider"]["worker_ips"]]
    assert all(host.endswith(".example.org") for host in hosts)
