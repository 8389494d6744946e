"""The manifests of docs/cluster.md: what Ray's own validator accepts, and commands that parse."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from orchestrator.cli import app

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs" / "cluster.md").read_text()
BLOCKS = {block.get("kind", "aws"): block for block in map(yaml.safe_load, re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL))}


def test_ray_accepts_the_aws_nodes_in_place_of_those_of_cluster_yaml(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    util = pytest.importorskip("ray.autoscaler._private.util")  # a private module: a newer Ray may have moved it
    monkeypatch.chdir(tmp_path)  # whose files `file_mounts` would be
    local = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    whole: dict[str, Any] = {key: value for key, value in local.items() if key != "min_workers"} | BLOCKS["aws"]
    prepared = util.prepare_config(whole)
    util.validate_config(prepared)
    assert prepared["available_node_types"]["gpu"]["min_workers"] == 4
    with pytest.raises(Exception, match="head_node_typ"):
        util.validate_config(prepared | {"head_node_typ": "head"})


def test_every_pod_of_kubernetes_sees_the_shared_folder_and_runs_one_image() -> None:
    spec = BLOCKS["RayCluster"]["spec"]
    pods = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    assert spec["authOptions"] == {"mode": "token"}
    images = set()
    for pod in (group["template"]["spec"] for group in pods):
        (container,) = pod["containers"]
        images.add(container["image"])
        assert container["volumeMounts"] == [{"name": "shared", "mountPath": "/shared"}]
        assert pod["volumes"][0]["persistentVolumeClaim"] == {"claimName": "wsss"}
    assert len(images) == 1
    assert all(isinstance(value, str) for group in pods for value in group["rayStartParams"].values())
    assert f"rayproject/ray:{spec['rayVersion']}-py311" in TEXT


def commands() -> list[list[str]]:
    """Every wsss-orch command of the page."""
    written = re.findall(r"^ {4}(wsss-orch .*?)(?: {4,}#.*)?$", TEXT, re.MULTILINE)
    return [shlex.split(line)[1:] for line in [*written, BLOCKS["RayJob"]["spec"]["entrypoint"]]]


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_of_the_page_parses(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.cli.options.open_bucket", lambda folder, address: tmp_path)  # there is no such bucket
    group = typer.main.get_command(app)
    parsed = group.commands[words[0]].make_context(words[0], words[1:])  # type: ignore[attr-defined]
    if words[0] == "submit":
        name, *rest = parsed.params["words"]
        assert str(group.commands[name].make_context(name, rest).params["store"]).startswith("/")  # type: ignore[attr-defined]
