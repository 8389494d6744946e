"""Runs that start from files of other programs: which stages these replace, which keys change, what is refused beforehand."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from backbones import resnet
from imagesets.errors import WrongInput
from imagesets.item import read_label_map
from imagesets.palette import save_label_map
from maps.grids import strided
from maps.maps import Maps
from maps.reading import divided_by_maximum
from methods import cam, imported
from orchestrator.engine.checks import check_images
from orchestrator.planning.components import components
from orchestrator.planning.experiment import Request
from orchestrator.planning.expression import expand
from orchestrator.planning.in_place import assignments
from orchestrator.planning.prepared import Prepared
from orchestrator.planning.recipe import Reference
from orchestrator.planning.recipes import find, load_all
from orchestrator.planning.references import resolve
from orchestrator.planning.settings import layered
from orchestrator.planning.stage import Stage
from orchestrator.storage.shards import StoredRecords
from tests.conftest import CLASSES, write_image_set
from tests.finished_run import finished_run
from tests.launching import digests, finish, launch
from tests.planned_run import plan_of
from training.stage import Context, Settings

SETTINGS = layered(find("shapes", ("images",))[0], [])
SMALL = Settings({"backbone.name": resnet.small, "backbone.weights": "none"})
IDS = [f"train_{number}" for number in range(6)]


def stages(method: str, **changed: str) -> dict[str, Stage]:
    """The expanded stages by name; `imported__maps="x"` sets imported.maps."""
    settings = SETTINGS | {name.replace("__", "."): value for name, value in changed.items()}
    return {stage.name: stage for stage in expand(components(method, "deeplabv2"), settings)}


def write_masks(image_set: Path, folder: Path) -> Path:
    """The official masks of the training list as imported pseudo masks."""
    folder.mkdir()
    for id in IDS:
        shutil.copy(image_set / "SegmentationClass" / f"{id}.png", folder)
    return folder


def write_maps(image_set: Path, folder: Path) -> Path:
    """Maps that are 0.9 on the truth and 0 elsewhere, as IRN writes maps."""
    folder.mkdir()
    for id in IDS:
        truth = read_label_map(image_set / "SegmentationClass" / f"{id}.png")
        keys = np.unique(truth[truth > 0]).astype(np.int64) - 1
        full = np.stack([truth == key + 1 for key in keys]).astype(np.float32) * 0.9
        content = {"keys": torch.from_numpy(keys), "cam": torch.from_numpy(full[:, ::4, ::4].copy()), "high_res": full}
        np.save(folder / f"{id}.npy", content, allow_pickle=True)  # type: ignore[arg-type]
    return folder


def write_network(path: Path, classes: int = 2) -> Path:
    torch.save(cam.network(SMALL, tuple("abcdef"[:classes])).state_dict(), path)
    return path


def planned(image_set: Path, method: str, **given: Path) -> Prepared:
    tiny = ("backbone.name=small", "backbone.weights=none")
    store = image_set.parent / "store"
    return plan_of(Request(method, f"folder:{image_set}", "deeplabv2-small", "", (*tiny, *assignments(**given)), store=store))


def keys(prepared: Prepared) -> dict[str, str]:
    return {step.stage.name: step.key for step in prepared.steps}


def test_masks_replace_what_the_segmenter_learns_and_all_before_it() -> None:
    last = [
        "imported-masks",
        "imported-masks-score",
        "deeplabv2-segmenter",
        "deeplabv2-predictions",
        "deeplabv2-predictions-score",
    ]
    for method in ("lpcam+amn", "cam+crf+irn", "supervised"):
        assert list(stages(method, imported__masks="x")) == last


def test_maps_replace_the_last_before_the_refiners_and_are_read_with_their_thresholds() -> None:
    for method, thresholds in {
        "lpcam+irn": (0.45, 0.35, 1.0),
        "lpcam+amn": (0.45, 0.25, 1.3),
        "cam+irn": (0.30, 0.25, 1.0),
    }.items():
        plan = stages(method, imported__maps="x")
        read = (
            plan["irn-labels"].settings["maps.confident_foreground"],
            *(plan["irn-masks"].settings[f"maps.{name}"] for name in ("walk_background", "walk_power")),
        )
        assert read == thresholds
        assert plan["irn-labels"].inputs["maps"].name == plan["irn-masks"].inputs["maps"].name == "imported-maps"
        assert list(plan)[:2] == ["imported-maps", "imported-maps-score"] and "cam-network" not in plan
    assert stages("lpcam+none", imported__maps="x")["imported-maps-score"].settings["maps.seed_threshold"] == 0.30


def test_maps_pass_through_every_refiner() -> None:
    plan = stages("cam+crf+irn", imported__maps="x")
    assert plan["crf-maps"].inputs["maps"].name == "imported-maps"
    assert plan["irn-masks"].inputs["maps"].name == "crf-maps"


def test_irn_starts_from_the_method_s_network_where_it_has_no_weights_of_its_own() -> None:
    assert "cam-network" in stages("lpcam+irn", imported__maps="x", backbone__weights="none")


def test_a_network_replaces_the_network_component_s_training_alone() -> None:
    plan = stages("recam+advcam+irn", imported__network="x")
    assert "cam-network" not in plan and plan["recam-network"].inputs["network"].name == "imported-network"
    assert plan["imported-network"].recipe.network == "methods.cam:network"
    assert stages("advcam+irn", imported__network="x")["advcam-maps"].settings["network.weights"] is None


@pytest.mark.parametrize(
    ("method", "changed", "sentence"),
    [
        ("supervised", {"imported__maps": "x"}, r"makes no maps that imported\.maps could replace"),
        ("cam+irn", {"imported__maps": "x", "imported__masks": "x"}, r"no stage of this run would read imported\.maps"),
        ("cam+irn", {"imported__maps": "x", "imported__network": "x"}, r"would read imported\.network"),
    ],
)
def test_an_import_that_would_be_ignored_is_refused(method: str, changed: dict[str, str], sentence: str) -> None:
    with pytest.raises(WrongInput, match=sentence):
        stages(method, **changed)


@pytest.mark.parametrize(("kind", "write"), [("masks", write_masks), ("maps", write_maps)])
def test_a_folder_counts_by_the_contents_of_the_list_s_files(
    image_set: Path, tmp_path: Path, kind: str, write: Callable[[Path, Path], Path]
) -> None:
    folder = write(image_set, tmp_path / "first: #1")  # what YAML would take for a mapping and a comment
    before = keys(planned(image_set, "cam+irn", **{kind: folder}))
    moved = folder.rename(tmp_path / "moved")
    (moved / "README.txt").write_text("made elsewhere")
    shutil.copy(next(moved.iterdir()), moved / "val_0.png")
    assert keys(planned(image_set, "cam+irn", **{kind: moved})) == before
    first, second, *_ = sorted(moved.glob("train_*"))
    shutil.copy(first, second)
    after = keys(planned(image_set, "cam+irn", **{kind: moved}))
    untouched = {name for name, key in after.items() if before[name] == key}
    assert untouched == ({"cam-network"} if kind == "maps" else set())


def test_a_network_counts_by_its_content_and_training_settings_do_not_reach_it(image_set: Path, tmp_path: Path) -> None:
    before = keys(planned(image_set, "cam+none", network=write_network(tmp_path / "a.pt")))
    copied = Path(shutil.copy(tmp_path / "a.pt", tmp_path / "b.pt"))
    assert keys(planned(image_set, "cam+none", network=copied)) == before
    after = keys(planned(image_set, "cam+none", network=write_network(tmp_path / "c.pt")))
    assert all(after[name] != key for name, key in before.items())
    assert "epochs" not in stages("cam+none", imported__network="x")["imported-network"].settings


NETWORKS = [recipe.name for recipe in load_all().values() if recipe.kind == "network" and recipe.name != "supervised"]


@pytest.mark.parametrize("method", NETWORKS)
def test_every_method_s_network_is_rebuilt_for_an_import(method: str) -> None:
    stage = stages(f"{method}+none" if method != "pmm" else method, imported__network="x")["imported-network"]
    received = {name: resolve(value) if isinstance(value, Reference) else value for name, value in stage.settings.items()}
    module = resolve(stage.recipe.network)(Settings(received), CLASSES)
    assert isinstance(module, torch.nn.Module) and not any("epochs" in name for name in stage.settings)


def write_spoilt(path: Path, spoil: Callable[[torch.Tensor], torch.Tensor]) -> None:
    state = torch.load(write_network(path))
    torch.save({name: spoil(value) for name, value in state.items()}, path)


def refusal(prepared: Prepared) -> str:
    with pytest.raises(WrongInput) as refused:
        check_images(prepared)
    assert not (prepared.request.store / "stages").exists()
    return str(refused.value)


def test_everything_wrong_with_masks_is_told_at_once(image_set: Path, tmp_path: Path) -> None:
    folder = write_masks(image_set, tmp_path / "masks")
    (folder / "train_0.png").unlink()
    Image.fromarray(np.zeros((48, 48, 3), np.uint8)).save(folder / "train_1.png")
    save_label_map(folder / "train_2.png", np.zeros((40, 48), np.uint8))
    save_label_map(folder / "train_3.png", np.full((48, 48), 7, np.uint8))
    save_label_map(folder / "train_4.png", np.full((48, 48), 255, np.uint8))  # void alone is allowed
    (folder / "train_5.png").write_bytes(b"no image")
    told = refusal(planned(image_set, "cam+none", masks=folder)).splitlines()
    assert told[0] == "5 problems in the settings and files of the run, nothing was run:"
    for line, part in zip(told[1:], ("1 of 6 images (train_0)", "RGB image", "48x40", "labels [7]", "train_5"), strict=True):
        assert part in line and str(folder) in line


def test_everything_wrong_with_maps_is_told_at_once(image_set: Path, tmp_path: Path) -> None:
    folder = write_maps(image_set, tmp_path / "maps")
    (folder / "train_0.npy").unlink()
    (folder / "train_1.npy").write_bytes(b"no maps")
    np.savez(folder / "train_2.npz", keys=[0], cam=np.zeros((1, 12, 12)), high_res=np.zeros((1, 48, 48)))
    size = (40, 48)
    wrong = {"keys": [5], "cam": np.zeros((1, *strided(size))), "high_res": np.full((1, *size), 3.0)}
    (folder / "train_3.npy").unlink()
    np.savez(folder / "train_3.npz", **wrong)
    told = refusal(planned(image_set, "cam+none", maps=folder))
    assert told.startswith("6 problems")
    for part in ("train_0.npy or train_0.npz", "train_1.npy", "2 files for the image train_2", "classes [5]", "48x40", "0 to 3"):
        assert part in told


@pytest.mark.parametrize(
    ("write", "sentence"),
    [
        (lambda path: torch.save({"a": torch.zeros(1)}, path), "missing (first: backbone."),
        (lambda path: write_network(path, 3), "1 of another shape (first: classifier.weight [3, 256, 1, 1] for [2, 256, 1, 1])"),
        (lambda path: write_spoilt(path, lambda value: value / 0), "cannot be used: backbone.conv1.weight holds values that are"),
        (lambda path: write_spoilt(path, torch.Tensor.long), "backbone.conv1.weight holds int64 in place of float32"),
        (lambda path: path.write_bytes(b"nothing"), "is not a plain torch state dict"),
        (lambda path: torch.save({"weights": {}}, path), "is not a plain state dict"),
        (lambda path: torch.save(cam.network(SMALL, ("a", "b")), path), "is not a plain torch state dict"),
    ],
)  # fmt: skip
def test_a_network_that_does_not_fit_is_refused_in_a_sentence(
    image_set: Path, tmp_path: Path, write: Callable[[Path], Any], sentence: str
) -> None:
    write(tmp_path / "network.pt")
    told = refusal(planned(image_set, "cam+none", network=tmp_path / "network.pt"))
    assert told.startswith("1 problem in") and sentence in told


def test_a_network_may_be_a_safetensors_file_or_under_the_key_of_its_authors(tmp_path: Path) -> None:
    own = cam.network(SMALL, CLASSES)
    save_file(own.state_dict(), tmp_path / "own.safetensors")
    torch.save({"epoch": 3, "state_dict": own.state_dict()}, tmp_path / "own.pt")
    for path in tmp_path.iterdir():
        settings = Settings({**SMALL.values, "imported.network": str(path)})
        inputs = {"network": cam.network(SMALL, CLASSES)}
        found = imported.network(Context(settings, CLASSES, [], (), torch.device("cpu"), inputs))
        assert all(torch.equal(value, found.state_dict()[name]) for name, value in own.state_dict().items())


def test_files_of_maps_for_a_method_whose_own_maps_have_a_background_are_refused(image_set: Path, tmp_path: Path) -> None:
    with pytest.raises(WrongInput, match=r"^irn cannot read files of maps in place of sipe's: they hold no background, and sipe"):
        planned(image_set, "sipe+irn", maps=tmp_path)


def test_a_path_that_is_not_there_is_named(image_set: Path, tmp_path: Path) -> None:
    with pytest.raises(WrongInput, match=r"imported\.maps=.*nowhere is no existing folder; .* or none$"):
        planned(image_set, "cam+irn", maps=tmp_path / "nowhere")
    with pytest.raises(WrongInput, match=r"imported\.network=imagenet is no existing file"):
        planned(image_set, "cam+irn", network=Path("imagenet"))


def test_rows_name_what_was_imported_and_no_settings_of_its_making(image_set: Path, tmp_path: Path) -> None:
    given = assignments(maps=write_maps(image_set, tmp_path / "maps"))
    backbone = ("backbone.name=small", "backbone.weights=none")
    _, results, _ = finished_run(tmp_path / "store", image_set, "lpcam+irn", assignments=(*given, *backbone))
    seed, pseudo, seg = results["rows"]
    assert (seed["quantity"], seed["component"], seed["metrics"]["miou"]) == ("seed", "imported", 1)
    assert seed["protocol"]["threshold"] == 0.30 and "backbone.name" not in seed["protocol"]
    for row in (seed, pseudo, seg):
        told = row["protocol"]["imported maps"]
        assert told.startswith("content ") and told.endswith(" in place of lpcam's") and str(tmp_path) not in told
        assert row["cost"]["units"] is None
    assert pseudo["protocol"]["backbone.name"] == "small"  # of IRN's network
    _, plain, _ = finished_run(tmp_path / "store", image_set, "lpcam+irn", assignments=backbone)
    assert not any("imported" in name for row in plain["rows"] for name in row["protocol"])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Image set and store of one finished launch without imports."""
    root = tmp_path_factory.mktemp("run")
    images = write_image_set(root / "images")
    finish(images, root / "store", "--engine", "local", method="cam+irn")
    return images, root / "store"


def stage_folder(store: Path, name: str) -> Path:
    (found,) = (store / "stages").glob(f"{name}-????????????")
    return found


def contents(store: Path, name: str) -> dict[str, list[Any]]:
    """The records of a per-image stage in a form that == can compare."""
    records = StoredRecords(stage_folder(store, name))
    return {id: [(key, array.dtype, array.tolist()) for key, array in record.items()] for id, record in records.items()}


@pytest.mark.slow
def test_a_run_from_another_one_s_network_or_masks_ends_bit_equal_to_it(finished: tuple[Path, Path], tmp_path: Path) -> None:
    images, store = finished
    masks = tmp_path / "masks"
    masks.mkdir()
    for id, record in StoredRecords(stage_folder(store, "irn-masks")).items():
        save_label_map(masks / f"{id}.png", record["label"])
    network = stage_folder(store, "cam-network") / "network.pt"
    for option, path, equal in (
        ("--network-from", network, ("cam-maps", "irn-labels", "irn-masks", "deeplabv2-predictions")),
        ("--masks-from", masks, ("deeplabv2-predictions",)),
    ):
        done = finish(images, tmp_path / option, "--engine", "local", option, str(path), method="cam+irn")
        assert "cam-network" not in done.stdout
        assert all(contents(tmp_path / option, name) == contents(store, name) for name in equal)
        assert digests(tmp_path / option)["deeplabv2-segmenter"] == digests(store)["deeplabv2-segmenter"]


@pytest.mark.slow
def test_a_run_from_exported_maps_scores_as_the_one_they_come_from(finished: tuple[Path, Path], tmp_path: Path) -> None:
    images, store = finished
    (tmp_path / "maps").mkdir()
    for id, record in StoredRecords(stage_folder(store, "cam-maps")).items():
        maps = Maps.of(record, divided_by_maximum)
        content = {"keys": torch.from_numpy(maps.keys), "cam": maps.strided(), "high_res": maps.full().numpy()}
        np.save(tmp_path / "maps" / f"{id}.npy", content, allow_pickle=True)  # type: ignore[arg-type]
    options = ("--engine", "local", "--maps-from", str(tmp_path / "maps"))
    finish(images, tmp_path / "store", *options, method="cam+irn")
    ours, theirs = (rows(folder) for folder in (tmp_path / "store", store))
    for name in ("seed", "pseudo"):  # half precision moves a pixel here and there
        assert ours[name]["metrics"]["miou"] == pytest.approx(theirs[name]["metrics"]["miou"], abs=0.02)
    assert ours["seed"]["component"] == "imported" and "imported maps" in ours["seg"]["protocol"]
    again = launch(images, tmp_path / "store", *options, method="cam+irn")
    assert "nothing to do" in again.stdout


def rows(store: Path) -> dict[str, Any]:
    (path,) = (store / "runs").glob("*/results.json")
    return {row["quantity"]: row for row in json.loads(path.read_text())["rows"]}


def test_masks_without_a_labelled_pixel_are_refused(image_set: Path) -> None:
    folder = write_masks(image_set, image_set / "pseudo")
    for path in folder.iterdir():
        save_label_map(path, np.full((48, 48), 255, np.uint8))
    prepared = planned(image_set, "cam+irn", masks=folder)
    with pytest.raises(WrongInput, match=r"no mask in .*pseudo has a labelled pixel: all are 255, which is void"):
        check_images(prepared)
    save_label_map(folder / "train_1.png", np.zeros((48, 48), np.uint8))
    check_images(prepared)


def write_class(folder: Path, kind: str, id: str, key: int) -> None:
    """A mask or a file of maps of the class with this index alone."""
    if kind == "masks":
        save_label_map(folder / f"{id}.png", np.full((48, 48), key + 1, np.uint8))
    else:
        np.savez(folder / f"{id}.npz", keys=[key], cam=np.ones((1, 12, 12)), high_res=np.ones((1, 48, 48)))


@pytest.mark.parametrize(("kind", "what"), [("masks", "mask"), ("maps", "file of maps")])
def test_files_of_another_order_of_classes_are_refused(image_set: Path, tmp_path: Path, kind: str, what: str) -> None:
    everything = [f"train_{number}" for number in range(6)] + [f"val_{number}" for number in range(3)]
    (image_set / "image_labels.txt").write_text("".join(f"{id} disc\n" if id != "train_5" else f"{id}\n" for id in everything))
    (folder := tmp_path / "swapped").mkdir()
    for id in IDS:
        write_class(folder, kind, id, CLASSES.index("bar"))
    told = f"no {what} in {folder} has a class of its image's labels, in 5 files such as that of train_0 (labels disc; file bar)"
    assert told in refusal(planned(image_set, "cam+none", **{kind: folder}))
    write_class(folder, kind, "train_3", CLASSES.index("disc"))
    check_images(planned(image_set, "cam+none", **{kind: folder}))  # one that fits, and the classes are in order


def test_maps_without_a_class_or_a_value_are_told(image_set: Path, tmp_path: Path) -> None:
    folder = write_maps(image_set, tmp_path / "maps")
    for path in folder.iterdir():
        np.savez(path.with_suffix(".npz"), keys=np.zeros(0, int), cam=np.zeros((0, 12, 12)), high_res=np.zeros((0, 48, 48)))
        path.unlink()
    assert (
        "such as that of train_0 (labels " in (told := refusal(planned(image_set, "cam+none", maps=folder)))
        and "file none" in told
    )
    zero, one = ({"keys": np.zeros(1, int), "size": np.array([8, 8]), "grid0": np.full((1, 8, 8), value)} for value in (0, 0.5))
    assert imported.all_zero({"a": zero, "b": one}) == []
    (told,) = imported.all_zero({"a": zero, "b": zero})
    assert told.startswith("none of the 2 imported files of maps has a value above 0")


def test_masks_without_a_class_are_told() -> None:
    records = {id: {"label": np.full((2, 2), value)} for id, value in (("a", 0), ("b", 255))}
    told = "none of the 2 imported masks shows a class: every pixel is background or void"
    assert imported.without_foreground(records) == [told]
    assert imported.without_foreground({**records, "c": {"label": np.array([[0, 2]])}}) == []
    assert load_all()["imported"].stages[-1].warnings == "methods.imported:without_foreground"
