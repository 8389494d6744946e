"""A bundle is a run in one file: a colleague predicts with it, exports from it, and starts other runs from its network."""

import hashlib
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from imagesets.errors import WrongInput
from orchestrator import Segmenter
from orchestrator.afterwards.bundle import bundled, open_bundle, write_bundle
from orchestrator.afterwards.model_card import card
from orchestrator.reading.runs import FinishedRun, open_run
from orchestrator.storage.store import read_json
from tests.conftest import Command, write_image_set
from tests.finished_run import PretendEngine, UntrainedSegmenter, finished_run
from tests.launching import digests, finish


class Untrained(UntrainedSegmenter):
    """Delivers every network without training."""

    def train(self, job):  # type: ignore[no-untyped-def]
        from orchestrator.engine.context import settings_of
        from orchestrator.planning.references import resolve

        spent = super().train(job)
        torch.manual_seed(1)
        torch.save(resolve(job.recipe.network)(settings_of(job.settings), job.classes).state_dict(), job.folder / "network.pt")
        return spent


SETTINGS = ("deeplabv2.crop=48", "backbone.name=small", "backbone.weights=none", "cam.batch=4")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    root = tmp_path_factory.mktemp("bundle")
    weights = root / "secret" / "weights.pth"
    weights.parent.mkdir()
    torch.save({}, weights)
    images = write_image_set(root / "images")
    given = (*SETTINGS, f"upernet.weights={weights}")
    return open_run(root / "store", finished_run(root / "store", images, "cam+none", Untrained, assignments=given)[2].name)


@pytest.fixture(scope="module")
def bundle(run: FinishedRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sent") / "segmenter.zip"
    assert write_bundle(run, path) == ["cam-network", "deeplabv2-segmenter"]
    return path


def test_a_bundle_segments_as_its_run_without_a_store(command: Command, run: FinishedRun, bundle: Path, tmp_path: Path) -> None:
    images = run.store.root.parent / "images" / "JPEGImages"
    photograph = images / "val_0.png"
    expected = Segmenter(run).predict(photograph)
    assert np.array_equal(Segmenter.load(bundle).predict(photograph), expected) and len(np.unique(expected)) > 1
    (tmp_path / "in").mkdir()
    shutil.copy(photograph, tmp_path / "in")
    code, shown, _ = command("predict", bundle, "--images", tmp_path / "in", "--to", tmp_path / "out")
    assert code == 0 and run.name in shown and (tmp_path / "out" / "val_0.png").is_file()
    code, *_ = command("export", bundle, "--what", "model", "--format", "torchscript", "--to", tmp_path / "model")
    assert code == 0 and (tmp_path / "model" / "model.pt").is_file()
    code, _, errors = command("export", bundle, "--to", tmp_path / "masks")
    assert code == 2 and "holds networks and no pseudo masks" in errors


def test_equal_runs_give_equal_bundles_without_paths_of_the_machine(run: FinishedRun, bundle: Path, tmp_path: Path) -> None:
    write_bundle(run, tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == bundle.read_bytes()
    with zipfile.ZipFile(bundle) as packed:
        texts = {name: packed.read(name).decode() for name in packed.namelist() if not name.endswith(".pt")}
    assert not any(str(run.store.root.parent) in text for text in texts.values())
    settings = json.loads(texts[f"runs/{run.name}/results.json"])["settings"]
    assert settings["upernet.weights"] == "weights.pth" and settings["backbone.weights"] == "none"
    assert texts["model_card.md"] == card(run)


def test_a_bundle_of_a_bundle_is_the_bundle(bundle: Path, tmp_path: Path) -> None:
    write_bundle(open_bundle(bundle), tmp_path / "copy.zip")
    assert (tmp_path / "copy.zip").read_bytes() == bundle.read_bytes()


def repacked(bundle: Path, target: Path, **changed: bytes) -> Path:
    """The bundle with some files' contents replaced; `__` stands for / and . in their names."""
    with zipfile.ZipFile(bundle) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            found = next((content for part, content in changed.items() if name.endswith(part.replace("__", "."))), None)
            new.writestr(name, old.read(name) if found is None else found)
    return target


@pytest.mark.parametrize(
    ("mark", "results", "sums", "told"),
    [
        ('{"run": "x", "format": 1}', "[]", None, "names no run"),
        ('{"run": "x\\u001b[31m", "format": 1}', "{}", None, "names no run"),
        ("[" * 100_000 + "]" * 100_000, "{}", None, "names no run"),
        ('{"run": "x", "format": 1}', "{}", b"\xff\xfe", "is damaged"),
    ],
)
def test_a_forged_bundle_is_refused_in_one_sentence(
    mark: str, results: str, sums: bytes | None, told: str, tmp_path: Path
) -> None:
    path = tmp_path / "forged.zip"
    files = {"bundle.json": mark.encode(), "runs/x/results.json": results.encode(), "runs/x\x1b[31m/results.json": b"{}"}
    made = "".join(f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in files.items()).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {**files, "SHA256SUMS": made if sums is None else sums}.items():
            archive.writestr(name, content)
    with pytest.raises(WrongInput, match=told):
        open_bundle(path)


def test_a_damaged_or_foreign_file_is_refused(bundle: Path, tmp_path: Path) -> None:
    for path, sentence in (
        (repacked(bundle, tmp_path / "a.zip", network__pt=b"other weights"), "is damaged: stages/.*network.pt is not"),
        (repacked(bundle, tmp_path / "b.zip", SHA256SUMS=b""), "is damaged: bundle.json"),
    ):
        with pytest.raises(WrongInput, match=sentence):
            open_bundle(path)
    (tmp_path / "half.zip").write_bytes(bundle.read_bytes()[:1000])
    with pytest.raises(WrongInput, match="is no whole bundle"):
        open_bundle(tmp_path / "half.zip")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("photograph.jpg", b"")
    with pytest.raises(WrongInput, match="a zip file, but no bundle"):
        Segmenter.load(tmp_path / "other.zip")
    with pytest.raises(WrongInput, match=r"nowhere\.zip: there is no such file"):
        Segmenter.load(tmp_path / "nowhere.zip")


def test_no_damage_is_taken_for_a_bundle(bundle: Path, tmp_path: Path) -> None:
    whole, damaged, rng = bundle.read_bytes(), tmp_path / "damaged.zip", np.random.default_rng(0)
    for place in (*rng.integers(len(whole), size=10), *rng.integers(len(whole) - 1000, len(whole), size=30)):
        content = bytearray(whole)
        content[place] ^= 1 << rng.integers(8)
        damaged.write_bytes(content if rng.random() < 0.8 else content[:place])
        try:
            assert open_bundle(damaged).results["run"] == open_bundle(bundle).results["run"]  # nothing that counts was hit
        except WrongInput as error:
            assert "\n" not in str(error)


def test_a_damaged_network_is_neither_bundled_nor_read(run: FinishedRun, tmp_path: Path) -> None:
    shutil.copytree(run.store.root, tmp_path / "store")
    damaged = open_run(tmp_path / "store", run.name)
    network = damaged.result("deeplabv2-segmenter")[0] / "network.pt"
    network.write_bytes(network.read_bytes()[:1000])
    for use in (lambda: write_bundle(damaged, tmp_path / "b.zip"), lambda: Segmenter(damaged)):
        with pytest.raises(WrongInput, match=r"^[^\n]*network.pt is damaged; launch its run again with --force[^\n]*$"):
            use()
    assert not (tmp_path / "b.zip").exists()


def test_a_bundle_is_a_new_file(run: FinishedRun, bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(WrongInput, match="exists; give a new file"):
        write_bundle(run, bundle)
    with pytest.raises(WrongInput, match=r"must end in \.zip"):
        write_bundle(run, tmp_path / "bundle")


def test_a_plan_starts_from_the_bundle_s_network(command: Command, run: FinishedRun, bundle: Path, tmp_path: Path) -> None:
    images = run.store.root.parent / "images"
    words = ["launch", "--method", "cam+none", "--segmenter", "deeplabv2-small", "--store", tmp_path / "store", "--plan"]
    words += [word for setting in (*SETTINGS, "deeplabv2.batch=2") for word in ("--set", setting)]
    code, shown, errors = command(*words, "--images", f"folder:{images}", "--network-from", bundle)
    assert code == 0 and "imported-network" in shown and "cam-network" not in shown, errors
    assert not (tmp_path / "store").exists()
    larger = ("--set", "backbone.name=resnet50", "--set", "backbone.weights=none")
    code, _, errors = command(*words, *larger, "--images", f"folder:{images}", "--network-from", bundle)
    held = f"--network-from {bundle} (the cam-network of cam+none on the backbone small)"
    assert code == 2 and f"{held} does not fit the network on the backbone resnet50" in " ".join(errors.split())
    other = shutil.copytree(images, tmp_path / "other")
    for name in ("classes.txt", "image_labels.txt"):
        (other / name).write_text((other / name).read_text().replace("bar", "cube"))
    code, _, errors = command(*words, "--images", f"folder:{other}", "--network-from", bundle)
    assert code == 2 and "knows the classes disc, bar, and the images have disc, cube" in errors
    words.remove("--plan")
    few = ("--set", "deeplabv2.batch=99", "--images", f"folder:{images}", "--network-from", bundle)
    code, _, errors = command(*words, *few)
    assert code == 2 and "deeplabv2.batch=99 is larger than the training list" in errors and not (tmp_path / "store").exists()


def test_a_network_of_a_bundle_is_a_plain_state_dict(run: FinishedRun, bundle: Path, tmp_path: Path) -> None:
    found = bundled(bundle)
    assert found is not None
    path = found.network(tmp_path / "kept")
    assert path.read_bytes() == (run.result("cam-network")[0] / "network.pt").read_bytes()
    assert bundled(path) is None  # what torch.save writes is a zip file too
    assert bundled(tmp_path / "nowhere") is None


def test_the_card_tells_what_the_weights_saw(run: FinishedRun, tmp_path: Path) -> None:
    told = card(run)
    for part in ("no masks, boxes or points", "deeplabv2.weights: none", "| 2 | bar |", "mIoU", "seg on val", "CVPR 2016"):
        assert part in told
    images = write_image_set(tmp_path / "images")
    supervised = finished_run(tmp_path / "store", images, "supervised", PretendEngine)[2].name
    assert "official pixel masks of the list train" in card(open_run(tmp_path / "store", supervised))


@pytest.mark.slow
def test_a_run_from_a_bundle_ends_as_the_run_in_it(image_set: Path, tmp_path: Path) -> None:
    finish(image_set, tmp_path / "first", "--engine", "local", method="cam+none")
    (results,) = (tmp_path / "first" / "runs").glob("*/results.json")
    write_bundle(open_run(tmp_path / "first", results.parent.name), tmp_path / "b.zip")
    options = ("--engine", "local", "--network-from", str(tmp_path / "b.zip"))
    done = finish(image_set, tmp_path / "second", *options, method="cam+none")
    assert "cam-network" not in done.stdout
    first, second = digests(tmp_path / "first"), digests(tmp_path / "second")
    assert first["deeplabv2-segmenter"] == second["deeplabv2-segmenter"]
    (own,) = (tmp_path / "second" / "runs").glob("*/results.json")
    kept = (read_json(own) or {})["settings"]["imported.network"]
    assert Path(kept).parent == tmp_path / "second" / "imported" and Path(kept).is_file()
