"""Whole runs on Ray and without it: every stage, every score, nothing done twice."""

import json
import re
from pathlib import Path

import pytest

from imagesets.item import read_label_map
from imagesets.lists import read_list
from metrics import region
from orchestrator.pages.report import layer_of
from orchestrator.storage.store import Store
from tests.conftest import CLASSES
from tests.launching import digests, finish, launch, manifests

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """Image set, store and output of a finished launch on Ray, started in an awkward place.

    The working directory has packages named like ours, there is no home folder, and the path of temporary files is long.
    """
    from tests.conftest import write_image_set

    root = tmp_path_factory.mktemp("run")
    for name in ("metrics", "methods", "training"):
        (root / "here" / name).mkdir(parents=True)
        (root / "here" / name / "__init__.py").write_text("raise RuntimeError('a folder of the user was imported')\n")
    images = write_image_set(root / "images", train=40)
    temporary = root / ("temporary" * 12)
    temporary.mkdir()
    done = finish(images, root / "store", cwd=root / "here", TMPDIR=str(temporary), HOME=str(root / "none"))
    return images, root / "store", done.stdout


def test_every_stage_is_made_and_scored_with_its_protocol(finished: tuple[Path, Path, str]) -> None:
    _, store, output = finished
    assert len(manifests(store)) == 16
    (results,) = (json.loads(path.read_text()) for path in (store / "runs").glob("*/results.json"))
    assert [(row["quantity"], row["component"], row["split"]) for row in results["rows"]] == [
        *(("seed", "lpcam", "train"), ("seed", "amn", "train"), ("pseudo", "irn", "train"), ("seg", "deeplabv2", "val")),
    ]
    for row in results["rows"]:
        assert row["metrics"]["miou"] == pytest.approx(counted(finished[0], store, row))
        assert row["protocol"]["labels from"] == "list" and row["protocol"]["backbone.weights"] == "none"
        said = f"{row['quantity']} {row['component']} {row['split']} {100 * row['metrics']['miou']:.1f} "
        assert any(" ".join(line.split()).startswith(said) for line in output.splitlines())


def counted(images: Path, store: Path, row: dict) -> float:
    """The mIoU of a row's label maps, pixel by pixel."""
    made, masks = layer_of(Store(store), row, "", CLASSES), images / "SegmentationClass"
    ids = read_list(images / "ImageSets/Segmentation" / f"{row['split']}.txt")
    return float(region.miou(sum(region.confusion(read_label_map(masks / f"{id}.png"), made.of(id)[0], 3) for id in ids)))


def test_the_report_is_one_page_without_network_requests(finished: tuple[Path, Path, str]) -> None:
    (page,) = (path.read_text() for path in (finished[1] / "runs").glob("*/report.html"))
    assert page.count("<svg") == 2 + 4  # two seeds over their threshold, four trainings
    sheets = json.loads(re.findall('<script type="application/json"[^>]*>(.*?)</script>', page, re.DOTALL)[0])
    pictures = [one for sheet in sheets for sample in sheet["samples"] for one in sample["pictures"]]
    assert sum(isinstance(one, str) for one in pictures) == 12 * 4 + 3 * 2  # masks and three results of train, one of val
    assert sum(isinstance(one, dict) for one in pictures) == 12 * 2  # the heat maps of both seeds
    assert not any(marker in page for marker in ('src="http', "src='http", 'href="http', "@import", "url(http"))


def test_the_same_command_again_does_nothing_and_says_so(finished: tuple[Path, Path, str]) -> None:
    images, store, _ = finished
    before = {path: path.stat().st_mtime_ns for path in (store / "stages").rglob("*") if path.is_file()}
    again = launch(images, store)
    assert again.returncode == 0 and "nothing to do: all 16 stages" in again.stdout
    assert before == {path: path.stat().st_mtime_ns for path in (store / "stages").rglob("*") if path.is_file()}


def test_another_method_reuses_the_trained_network_and_says_why_the_rest_runs(finished: tuple[Path, Path, str]) -> None:
    images, store, _ = finished
    plan = launch(images, store, "--plan", method="cam+irn")
    lines = {line.split()[0]: line for line in plan.stdout.splitlines() if line.strip()}
    assert "cached" in lines["cam-network"] and "cached" in lines["cam-maps"]
    assert "stale because" in lines["irn-labels"] and "maps.confident_foreground 0.45 -> 0.3" in lines["irn-labels"]


def test_the_local_engine_gives_bit_equal_results(finished: tuple[Path, Path, str], tmp_path: Path) -> None:
    images, store, _ = finished
    finish(images, tmp_path / "store", "--engine", "local")
    assert digests(tmp_path / "store") == digests(store)


@pytest.mark.parametrize(
    ("method", "options", "scored"),
    [
        ("recam+crf", (), ["recam", "crf", "deeplabv2"]),
        ("recam+advcam+none", (), ["recam", "advcam", "none", "deeplabv2"]),
        ("advcam+crf+irn", (), ["advcam", "crf", "irn", "deeplabv2"]),
        ("lpcam+amn", ("--set", "lpcam.on=amn"), ["amn", "lpcam", "irn", "deeplabv2"]),
    ],
)
def test_the_rest_of_the_cam_family_runs_to_its_scores(
    finished: tuple[Path, Path, str], method: str, options: tuple[str, ...], scored: list[str]
) -> None:
    images, store, _ = finished
    done = finish(images, store, "--engine", "local", *options, method=method)
    assert "cam-network: cached" in done.stdout
    newest = max((store / "runs").glob("*/results.json"), key=lambda path: path.stat().st_mtime)
    rows = json.loads(newest.read_text())["rows"]
    assert [row["component"] for row in rows] == scored
    for row in rows:
        assert row["metrics"]["miou"] == pytest.approx(counted(images, store, row)), row["component"]
    assert newest.with_name("report.html").exists()


def test_two_ray_train_workers_train_as_two_local_ones_do(finished: tuple[Path, Path, str], tmp_path: Path) -> None:
    images, _, _ = finished
    finish(images, tmp_path / "store", "--set", "training.workers=2", "--until", "cam-network")
    finish(images, tmp_path / "local", "--set", "training.workers=2", "--until", "cam-network", "--engine", "local")
    assert digests(tmp_path / "store") == digests(tmp_path / "local")
    # batch norms see half of each batch: one worker ends elsewhere
    assert digests(tmp_path / "store")["cam-network"] != digests(finished[1])["cam-network"]


def test_a_damaged_image_stops_the_run_before_anything_is_trained(tmp_path: Path) -> None:
    from tests.conftest import write_image_set

    images = write_image_set(tmp_path / "images")
    for name in ("train_1", "train_4"):
        path = images / "JPEGImages" / f"{name}.png"
        path.write_bytes(path.read_bytes()[:200])
    failed = launch(images, tmp_path / "store", "--engine", "local")
    assert failed.returncode == 2
    assert "train_1" in failed.stderr and "train_4" in failed.stderr and "Traceback" not in failed.stderr
    assert not (tmp_path / "store" / "stages").exists()


def test_several_runs_share_nothing_that_a_random_seed_reaches_and_are_told_with_their_spread(tmp_path: Path) -> None:
    from tests.conftest import write_image_set

    images, store = write_image_set(tmp_path / "images"), tmp_path / "store"
    done = finish(images, store, "--engine", "local", "--random-seeds", "0,3", method="cam+none")
    assert "random seeds 0, 3" in done.stdout and "±" in done.stdout and "cam-network [random seed 3]: done" in done.stdout
    found = [json.loads(path.read_text()) for path in (store / "runs").glob("*/results.json")]
    assert sorted(results["random_seed"] for results in found) == [0, 3]
    networks = [path.read_bytes() for path in (store / "stages").glob("cam-network-*/network.pt")]
    assert len(networks) == 2 and networks[0] != networks[1]
    alone = launch(images, store, "--engine", "local", "--random-seed", "3", method="cam+none")
    assert "nothing to do" in alone.stdout
