"""CONTRIBUTING's promise: a method is one file and its recipes; it runs and is reported without a change in another file."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import backbones
from backbones.resnet import small
from tests.launching import TINY
from tests.test_joints import ROOT, House, changed

TOY = ROOT / "tests/toy_method"
QUICK = ("toy.epochs=40", "toy.batch=6", "training.workers=1", "deeplabv2.crop=48", "deeplabv2.batch=2", "deeplabv2.iterations=4")
SETS = [word for value in QUICK for word in ("--set", value)]


class Home(House):
    """A copy of the project with the toy method in it."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.before = self.files()
        self.store = root.with_name("store")
        shutil.copy(TOY / "toy.py", root / "methods")
        for recipe in TOY.glob("*.yaml"):
            shutil.copy(recipe, root / "recipes")

    def files(self) -> dict[str, str]:
        """Every source file of the copy with a hash of what is in it."""
        found = (path for path in self.root.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
        return {str(path.relative_to(self.root)): hashlib.md5(path.read_bytes()).hexdigest() for path in found}

    def python(self, *words: object) -> subprocess.CompletedProcess[str]:
        """The copy's code, run in its folder."""
        given, environment = [sys.executable, *map(str, words)], os.environ | {"PYTHONPATH": str(self.root), "COLUMNS": "200"}
        return subprocess.run(given, env=environment, cwd=self.root, capture_output=True, text=True, timeout=600)

    def launch(self, method: str, *options: object) -> subprocess.CompletedProcess[str]:
        fixed = ("--engine", "local", "--track", "none", "--images", f"folder:{self.images}", "--store", self.store)
        return self.python("-m", "orchestrator", "launch", "--method", method, "--recipe", TINY, *fixed, *SETS, *options)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return Home(tmp_path_factory.mktemp("toy") / "house")


def names(plan: str) -> list[str]:
    """The stages of a plan as it is printed."""
    return [line.split()[0] for line in plan.splitlines() if "will run" in line]


def test_it_is_planned_and_nothing_but_its_own_files_is_new(home: Home) -> None:
    planned = home.launch("toy+sharp", "--segmenter", "own", "--plan")
    assert planned.returncode == 0, planned.stderr
    assert names(planned.stdout) == [
        *("toy-first", "toy-second", "toy-peaks", "toy-maps", "toy-maps-score", "own-predictions", "own-predictions-score")
    ]
    after = home.files()
    assert after.keys() - home.before.keys() == {"methods/toy.py", "recipes/toy.yaml", "recipes/sharp.yaml"}
    assert {name: after[name] for name in home.before} == home.before


def test_what_it_cannot_do_is_refused_in_a_sentence(home: Home) -> None:
    for method, told in {
        "sharp": "sharp needs label-logits, which the training of cam does not provide",
        "toy+lpcam": "lpcam needs features and class-probability, which the network of toy does not provide",
        "toy+irn": "irn needs backbone, which the network of toy does not provide; it provides decoder, label-logits; it is read",
    }.items():
        refused = home.launch(method, "--plan")
        assert refused.returncode == 2 and told in refused.stderr, refused.stderr


def test_the_add_on_s_code_counts_where_it_is_named_and_nowhere_else(tmp_path: Path) -> None:
    home, methods = Home(tmp_path / "house"), ("toy+none", "toy+sharp+none")
    before = home.plans(methods)
    home.edit("methods/toy.py", "self.weight * entropy", "self.weight * entropy.square()")
    assert changed(before, home.plans(methods)) == {("toy+sharp+none", stage) for stage in before["toy+sharp+none"]}


@pytest.fixture(scope="module")
def compared(home: Home, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Path], Path]:
    """The run folders of `toy+sharp` (own decoder) and `toy+irn` (with a segmenter), and the page that compares them."""
    weights, page = (tmp_path_factory.mktemp("files") / name for name in ("small.pt", "compared.html"))
    torch.save(backbones.build(small, frozen_statistics=False).state_dict(), weights)
    own = home.launch("toy+sharp", "--segmenter", "own")
    assert own.returncode == 0, own.stdout + own.stderr
    walked = home.launch("toy+irn", "--segmenter", "deeplabv2-small", "--set", f"backbone.weights={weights}")
    assert walked.returncode == 0, walked.stdout + walked.stderr
    done = home.python("-m", "orchestrator", "compare", "toy+sharp", "toy+irn", "--store", home.store, "--to", page)
    assert done.returncode == 0, done.stdout + done.stderr
    folders = {json.loads(path.read_text())["method"]: path.parent for path in home.store.glob("runs/*/results.json")}
    return folders, page


@pytest.mark.slow
def test_it_runs_to_its_scores_and_they_name_it(compared: tuple[dict[str, Path], Path]) -> None:
    rows = {method: json.loads((folder / "results.json").read_text())["rows"] for method, folder in compared[0].items()}
    told = {method: [(row["quantity"], row["component"], row["components"]) for row in own] for method, own in rows.items()}
    assert told == {
        "toy+sharp": [("seed", "toy", ["sharp", "toy"]), ("seg", "own", ["own", "sharp", "toy"])],
        "toy+irn": [
            ("seed", "toy", ["toy"]),
            ("pseudo", "irn", ["irn", "toy"]),
            ("seg", "deeplabv2", ["deeplabv2", "irn", "toy"]),
        ],
    }
    for row in (rows["toy+sharp"][0], rows["toy+irn"][0], rows["toy+sharp"][1]):
        assert row["metrics"]["miou"] > 0.38, row  # background everywhere has 0.28


@pytest.mark.slow
def test_its_second_phase_goes_on_from_the_first_and_the_add_on_is_in_both(
    home: Home, compared: tuple[dict[str, Path], Path]
) -> None:
    trainings = [json.loads(path.with_name("manifest.json").read_text()) for path in home.store.glob("stages/toy-*/history.json")]
    assert {(manifest["stage"], manifest["identity"]["purpose"]) for manifest in trainings} == {
        *(("toy-first", "toy-first"), ("toy-second", "toy-second"))
    }
    found = {}
    for path in home.store.glob("stages/toy-*/history.json"):
        rows = json.loads(path.read_text())
        assert set(rows[0]) - {"epoch", "sharpness"} == {"presence"} and len(rows) == 40
        found[path.parent.name.split("-")[1], "sharpness" in rows[0]] = [row["presence"] for row in rows]
    for sharp in (True, False):
        first, second = found["first", sharp], found["second", sharp]
        assert abs(second[0] - first[-1]) < abs(first[0] - first[-1]) / 3


@pytest.mark.slow
def test_report_and_comparison_tell_of_it(compared: tuple[dict[str, Path], Path]) -> None:
    folders, page = compared
    for method, folder in folders.items():
        report = (folder / "report.html").read_text()
        told = {"toy+sharp": ("own-predictions", "sharpness", "sharp.weight"), "toy+irn": ("irn-masks", "presence", "irn.beta")}
        for text in ("toy-first", "toy-second", "toy-peaks", "toy.scales", *told[method]):
            assert text in report, (method, text)
    assert all(text in page.read_text() for text in ("toy+sharp", "toy+irn", "deeplabv2", "own"))


@pytest.mark.slow
def test_every_contract_runs_over_it(home: Home) -> None:
    shutil.copytree(ROOT / "tests", home.root / "tests", ignore=shutil.ignore_patterns("__pycache__", "golden"))
    shutil.copy(ROOT / "pyproject.toml", home.root)
    done = home.python("-m", "pytest", "-vv", "tests/contracts")
    assert done.returncode == 0, done.stdout
    for case in ("toy:toy-second", "toy+sharp:toy-first", "toy:toy-maps", "toy:toy-peaks", "toy+none:own-predictions", "[sharp]"):
        assert case in done.stdout, case
