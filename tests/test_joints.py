"""A new component or table entry changes no existing key; an entry counts in the keys of the stages that use it."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from orchestrator.planning.code_version import PACKAGES
from orchestrator.planning.recipe import Reference
from orchestrator.planning.recipes import entries, load_all
from orchestrator.planning.references import resolve
from tests.conftest import write_image_set

ROOT = Path(__file__).parents[1]
METHODS = ("lpcam+amn", "recam+advcam+crf", "supervised")
SEEDS = ("lpcam-maps-score", "recam-maps-score", "advcam-maps-score")  # of maps that are divided by their maximum
READERS = ("lpcam-prototypes", "amn-labels", "crf-masks")  # of such maps
Plans = dict[str, dict[str, dict]]  # method -> stage -> its key, and the names of the stages that it reads

PLAN = """
import json, sys
from pathlib import Path
from orchestrator.planning.experiment import Request, experiment
from orchestrator.planning.prepared import open_images_of, prepare
found, names = {}, {}
for method in sys.argv[2:]:
    wanted = experiment(Request(method, "folder:" + sys.argv[1], segmenter="deeplabv2-resnet101", store=Path("store")))
    planned = prepare(wanted, open_images_of(wanted, make=False))
    names[method] = planned.run
    for step in planned.steps:
        sources = [source.stage.name for source in step.inputs.values()]
        found.setdefault(method, {})[step.stage.name] = {"key": step.key, "reads": sources}
print(json.dumps([found, names]))
"""


class House:
    """A copy of the project that tests change."""

    names: dict[str, str]  # of the runs that were planned last, by method
    before: Plans

    def __init__(self, root: Path) -> None:
        self.root, self.images = root, write_image_set(root.with_name("images"))
        for package in (*PACKAGES, "orchestrator", "recipes"):
            shutil.copytree(ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__"))

    def plans(self, methods: Sequence[str] = METHODS) -> Plans:
        """Each of the methods, planned by the copy's code from its recipes."""
        given = [sys.executable, "-c", PLAN, str(self.images), *methods]
        environment = os.environ | {"PYTHONPATH": str(self.root)}
        done = subprocess.run(given, env=environment, cwd=self.root, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        plans, self.names = json.loads(done.stdout)
        return plans

    def edit(self, file: str, old: str, new: str) -> None:
        """Replace a text that occurs once in a file."""
        text = (self.root / file).read_text()
        assert text.count(old) == 1
        (self.root / file).write_text(text.replace(old, new))

    def copy(self, file: str, name: str, *changes: tuple[str, str]) -> None:
        """A file called `name` beside another, with some texts changed."""
        beside = Path(file).with_name(name)
        shutil.copy(self.root / file, self.root / beside)
        for old, new in changes:
            self.edit(str(beside), old, new)


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path / "house")


@pytest.fixture(scope="module")
def unchanged(tmp_path_factory: pytest.TempPathFactory) -> House:
    """A copy that no test changes, with its plans made. Where a copy and its images lie is part of no key."""
    house = House(tmp_path_factory.mktemp("joints") / "house")
    house.before = house.plans()
    return house


@pytest.fixture
def before(unchanged: House) -> Plans:
    return unchanged.before


def changed(before: Plans, after: Plans) -> set[tuple[str, str]]:
    """The stages (method, name) that have another key; both plans must have the same stages."""
    names = [(method, stage) for method, stages in before.items() for stage in stages]
    assert names == [(method, stage) for method, stages in after.items() for stage in stages]
    return {(method, stage) for method, stage in names if before[method][stage]["key"] != after[method][stage]["key"]}


def descendants(plans: Plans, users: set[str]) -> set[tuple[str, str]]:
    """The stages of that name in any method, and all stages that depend on them."""
    found = set()
    for method, stages in plans.items():
        for stage, plan in stages.items():  # in order, so that sources come first
            if stage in users or any((method, source) in found for source in plan["reads"]):
                found.add((method, stage))
    return found


def test_a_new_thing_of_every_kind_changes_no_key_and_renames_no_run(unchanged: House, house: House) -> None:
    house.copy("backbones/mobilenet.py", "toy_net.py", ("def mobilenetv2(", "def toy("))
    own = ("mobilenetv2: backbones.mobilenet:mobilenetv2", "toy: backbones.toy_net:toy")
    house.copy("recipes/mobilenetv2.yaml", "toy_net.yaml", ("name: mobilenetv2", "name: toy-net"), own)
    numbers = "{iterations: 2, gaussian_sxy: 1, gaussian_weight: 1, bilateral_sxy: 9, bilateral_srgb: 9, bilateral_weight: 9}"
    house.edit("recipes/crf.yaml", "\ntable:\n", f"\ntable:\n  toy: {numbers}\n")
    house.copy("methods/cam.py", "toy.py")
    house.copy("recipes/cam.yaml", "toy.yaml", ("name: cam", "name: toy"), ("methods.cam:training", "methods.toy:training"))
    house.copy("refiners/threshold.py", "toy_cut.py")
    calls = [(f"refiners.threshold:{call}", f"refiners.toy_cut:{call}") for call in ("masks", "certain_masks")]
    house.copy("recipes/none.yaml", "toy_cut.yaml", ("name: none", "name: toy-cut"), *calls)
    house.copy("imagesets/folder.py", "toy_images.py")
    house.copy(
        "recipes/folder.yaml",
        "toy_images.yaml",
        ("name: folder", "name: toy-images"),
        ("imagesets.folder:", "imagesets.toy_images:"),
    )
    house.copy("segmentation/deeplab_v2.py", "toy_segmenter.py")
    house.copy("recipes/deeplabv2.yaml", "toy_segmenter.yaml", ("name: deeplabv2", "name: toy-segmenter"))
    for kind in ("addon", "mixing"):
        adds = f"{{name: toy-{kind}, kind: {kind}, title: A toy, adds: {{call: methods.toy:build}}}}"
        (house.root / f"recipes/toy_{kind}.yaml").write_text(adds.replace("methods.toy:build", '"methods.toy:build"'))
    assert changed(unchanged.before, house.plans()) == set() and house.names == unchanged.names


def test_a_new_score_changes_no_key_and_renames_no_run(unchanged: House, house: House) -> None:
    labels = "labels: {title: Label, many: labels, word: labels, every: true, main: toy}"
    (house.root / "recipes/toy.yaml").write_text(f"""
name: toy
kind: score
title: A toy score
quantities: {{{labels}, {labels.replace("labels", "masks")}}}
metrics: {{toy: {{title: toy}}}}
settings: {{width: {{default: 2}}}}
stages:
  - &one {{name: seed, call: "metrics.evaluation:score_maps", list: scoring, reads: [maps], settings: [width]}}
  - {{<<: *one, name: seg, list: validation, reads: [predictions]}}
  - {{<<: *one, name: labels, reads: [labels]}}
  - {{<<: *one, name: masks, reads: [masks]}}
""")
    after = house.plans()
    assert house.names == unchanged.names
    for method, stages in unchanged.before.items():
        assert stages.items() <= after[method].items()
        assert {name for name in after[method] if name not in stages} > {"deeplabv2-predictions-toy-score"}


@pytest.mark.parametrize(
    ("file", "old", "new", "users"),
    [
        ("recipes/crf.yaml", "bilateral_sxy: 50", "bilateral_sxy: 51", {"amn-labels", "irn-labels", "crf-masks"}),
        ("recipes/crf.yaml", "bilateral_sxy: 67", "bilateral_sxy: 68", {"deeplabv2-predictions"}),
        ("backbones/resnet.py", "(_BOTTLENECK, (3, 4, 6, 3)", "(_BOTTLENECK, (3, 4, 5, 3)", {"cam-network", "amn-network"}),
        ("backbones/resnet.py", "(3, 4, 23, 3)", "(3, 4, 22, 3)", {"deeplabv2-segmenter"}),
    ],
)
def test_an_entry_counts_in_the_keys_of_those_that_use_it(
    before: Plans, house: House, file: str, old: str, new: str, users: set[str]
) -> None:
    house.edit(file, old, new)
    assert changed(before, house.plans()) == descendants(before, users)


def test_two_components_of_one_code_share_no_random_numbers_and_no_key(house: House) -> None:
    house.copy("recipes/cam.yaml", "toy.yaml", ("name: cam", "name: toy"))
    cam, toy = (plan.values() for plan in house.plans(("cam+none", "toy+none")).values())
    assert not {stage["key"] for stage in cam} & {stage["key"] for stage in toy}


@pytest.mark.parametrize(
    ("file", "old", "new", "users"),
    [
        ("methods/amn.py", "[maps.keys + 1]\n", "[maps.keys + 1].sqrt()\n", {"amn-maps-score", "irn-labels", "irn-masks"}),
        ("maps/reading.py", "(summed_as_irn(maps, full))", "(-summed_as_irn(maps, full))", {*SEEDS, *READERS}),
        ("metrics/thresholds.py", "int(np.argmax(values))", "int(np.argmin(values))", {*SEEDS, "amn-maps-score"}),
    ],
)
def test_code_that_reads_maps_or_sums_up_scores_counts_in_the_keys_of_the_reader(
    before: Plans, house: House, file: str, old: str, new: str, users: set[str]
) -> None:
    house.edit(file, old, new)
    assert changed(before, house.plans()) == descendants(before, users)


READ_NETWORKS = {"cam-maps", "recam-responses", "recam-maps", "advcam-maps", "deeplabv2-predictions"}


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("backbones/folding.py", "isinstance(norm, nn.BatchNorm2d)", "isinstance(norm, nn.BatchNorm1d)"),
        ("backbones/extraction.py", "    quicken(network)\n", ""),
    ],
)
def test_what_is_done_to_networks_that_are_read_counts_in_the_keys_of_their_readers(
    before: Plans, house: House, file: str, old: str, new: str
) -> None:
    house.edit(file, old, new)
    assert changed(before, house.plans()) == descendants(before, READ_NETWORKS)


def test_entries_that_nothing_uses_and_the_names_of_those_in_use_are_no_part_of_a_key(before: Plans, house: House) -> None:
    house.edit("recipes/crf.yaml", "bilateral_sxy: 83", "bilateral_sxy: 84")
    house.edit("backbones/resnet.py", "(1, 1, 1, 1)", "(1, 1, 1, 2)")
    house.edit("backbones/mobilenet.py", "MobileNetV2(**options)", "MobileNetV2(**options).eval()")
    house.edit("recipes/crf.yaml", "  irn-labels: {", "  other: {")
    house.edit("recipes/crf.yaml", "default: irn-labels", "default: other")
    house.edit("recipes/resnet.yaml", "  resnet50: ", "  fifty: ")
    house.edit("recipes/backbone.yaml", "default: resnet50", "default: fifty")
    assert changed(before, house.plans()) == set()


def test_every_reference_of_a_table_is_a_function_and_every_setting_that_chooses_has_a_table() -> None:
    recipes = load_all().values()
    for entry in (entry for recipe in recipes for entry in entries(recipe.name).values()):
        assert callable(resolve(entry)) if isinstance(entry, Reference) else entry
    sources = {setting.choices_from for recipe in recipes for setting in recipe.settings.values()} - {""}
    assert sources == {"backbone", "crf"} and all(map(entries, sources))
