"""CDA: objects are pasted on images that do not show their class."""

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch.nn import functional

from imagesets.errors import WrongInput
from imagesets.item import Item, read_label_map
from imagesets.palette import save_label_map
from methods.cda import found_objects, mix_online, mix_with_bank, usable
from methods.cda_bank import WithObject, bank_of, bank_problems, only_class
from methods.cda_objects import Pose, fitted, on_canvas, posed, tight, turned
from orchestrator.engine.checks import check_imports
from tests.contracts.cases import SEGMENTER, Case, plan
from tests.contracts.images import write_images
from tests.contracts.laboratory import Laboratory, Made, same
from tests.golden_vectors import golden
from tests.planned_run import planned
from tests.test_mixings import Seen
from training.loop import Stopped
from training.stage import Context, Settings

STILL, AREAS = Pose(0, (1.0, 1.0)), (0.1, 0.7)


def test_pasting_is_the_public_code_s() -> None:
    ref = golden("cda_paste")
    draw, row, column = ref["random_values"].tolist()
    background = ref["background"].movedim(-1, 0)
    canvas = background.shape[1:]
    cut, label = posed(ref["fg_crop"].movedim(-1, 0), ref["fg_seg"], canvas, angle=0, scale=draw * 0.4 + 0.8)
    image, mask = on_canvas(cut, label, canvas, (int(row), int(column)))
    assert torch.equal(torch.where(mask, image, background).movedim(0, -1), ref["out"])


@given(st.tuples(*[st.integers(1, 60)] * 2, *[st.integers(4, 60)] * 2), st.floats(0.1, 1.2))
def test_objects_are_resized_as_pillow_resizes_floats(sides: tuple[int, int, int, int], scale: float) -> None:
    rng = np.random.default_rng(0)
    planes = rng.random((4, *sides[:2]), np.float32)
    size = fitted(sides[:2], sides[2:], scale)
    cut, found = posed(torch.from_numpy(planes[:3]), torch.from_numpy(planes[3]), sides[2:], 0, scale)
    expected = [np.asarray(Image.fromarray(plane).resize(size[::-1], Image.Resampling.BILINEAR)) for plane in planes]
    np.testing.assert_allclose(torch.cat([cut, found[None]]).numpy(), np.stack(expected), atol=1e-5)


def test_an_object_of_a_few_pixels_that_is_shrunk_to_one_is_pasted() -> None:
    cut, label = posed(torch.full((3, 5, 4), 90, dtype=torch.uint8), torch.ones(5, 4, dtype=torch.uint8), (32, 32), 0, 0.1)
    assert (cut == 90).all() and label.all()


@given(
    st.tuples(*[st.integers(4, 50)] * 2), st.integers(0, 180), st.lists(st.floats(0, 1, exclude_max=True), min_size=4, max_size=4)
)
def test_an_object_lies_within_its_canvas_and_is_not_too_large(size: tuple[int, int], angle: int, draws: list[float]) -> None:
    canvas = (24, 40)
    cut, label = torch.rand(3, *size), torch.ones(size)
    image, mask = Pose(angle, (0.8, 1.2))(cut, label, canvas, draws)
    assert image.shape == (3, *canvas) and mask.shape == canvas and mask.any()
    _, inside = tight(image, mask)
    assert all(own <= 0.7 * 1.2 * side + 1e-6 for own, side in zip(inside.shape, canvas, strict=True))


def test_quarter_turns_move_every_pixel_and_other_turns_keep_the_area() -> None:
    planes = torch.rand(3, 5, 8)
    for quarters in (1, 2, -1):
        for mode in ("bilinear", "nearest"):
            found = turned(planes, 90 * quarters, mode)
            torch.testing.assert_close(found, planes.rot90(quarters, (1, 2)), rtol=0, atol=1e-5)
    label = torch.full((1, 30, 40), 7, dtype=torch.uint8)
    for angle in (-70, 1, 33):
        found = turned(label, angle, "nearest")
        assert set(found.unique().tolist()) <= {0, 7} and abs(int((found == 7).sum()) - 1200) < 40
    _, region = tight(found, found[0])
    assert min(a - b for a, b in zip(found.shape[1:], region.shape, strict=True)) <= 1  # the canvas is as small as it can be


def test_without_turning_and_scaling_an_object_that_fits_stays_as_it_is() -> None:
    cut, label = torch.rand(3, 5, 6), torch.ones(5, 6)
    image, mask = STILL(cut, label, (10, 10), [0.5, 0.5, 0.0, 0.99])
    assert torch.equal(image[:, :5, 4:], cut) and mask.sum() == 30 and mask[:5, 4:].all()


def test_an_object_is_the_only_class_of_its_image_and_neither_small_nor_all() -> None:
    label = np.zeros((10, 10), np.uint8)
    assert only_class(label, AREAS) is None
    label[:1, :9] = 3
    assert only_class(label, AREAS) is None
    label[:2] = 3
    assert only_class(label, AREAS) == 2
    label[9] = 255
    assert only_class(label, AREAS) == 2
    label[:8] = 3
    assert only_class(label, AREAS) is None
    label[:3], label[5, 5] = 3, 1
    assert only_class(label, AREAS) is None


def write_item(root: Path, id: str, index: int, classes: int = 2) -> Item:
    """A grey image with a coloured square of one class, and its label map in `root/bank`."""
    (root / "bank").mkdir(parents=True, exist_ok=True)
    rgb, label = np.full((20, 30, 3), 100, np.uint8), np.zeros((20, 30), np.uint8)
    rgb[4:14, 5:20], label[4:14, 5:20] = (200, 50 * index, 9), index + 1
    Image.fromarray(rgb).save(root / f"{id}.png")
    save_label_map(root / "bank" / f"{id}.png", label)
    return Item(id, root / f"{id}.png", (index,))


class Crop:
    """A sample that shows the whole image, and draws one number."""

    def __call__(self, item: Item, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        opaque = np.concatenate([item.rgb().transpose(2, 0, 1), np.full((1, 20, 30), 255, np.uint8)])
        drawn = torch.tensor(rng.random())
        return {"image": torch.from_numpy(opaque), "labels": torch.from_numpy(item.multi_hot(2)), "drawn": drawn}


@pytest.fixture
def items(tmp_path: Path) -> list[Item]:
    return [write_item(tmp_path, f"i{number}", number % 2) for number in range(4)]


def test_every_image_gets_an_object_of_a_class_that_it_does_not_show(items: list[Item], tmp_path: Path) -> None:
    bank = bank_of(tmp_path / "bank", items, AREAS)
    assert {index: [entry.item.id for entry in entries] for index, entries in bank.items()} == {0: ["i0", "i2"], 1: ["i1", "i3"]}
    sample = pickle.loads(pickle.dumps(WithObject(Crop(), bank, Pose(90, (0.8, 1.2)))))
    for item in items:
        made, plain = sample(item, np.random.default_rng(5)), Crop()(item, np.random.default_rng(5))
        assert all(torch.equal(made[name], values) for name, values in plain.items())  # what was drawn before is drawn still
        assert int(made["object_class"]) == 1 - item.labels[0]
        assert set(made["object"][3].unique().tolist()) == {0, 255}
        again = sample(item, np.random.default_rng(5))
        assert torch.equal(again["object"], made["object"])


def test_an_object_of_the_bank_is_the_pixels_of_its_label(items: list[Item], tmp_path: Path) -> None:
    made = WithObject(Crop(), bank_of(tmp_path / "bank", items[:2], AREAS), STILL)(items[0], np.random.default_rng(0))
    rgba, mask = tight(made["object"], made["object"][3])
    assert mask.shape == (10, 15) and (rgba == torch.tensor([200, 50, 9, 255])[:, None, None]).all()


def test_an_image_with_all_classes_gets_none_and_its_loss_is_that_of_itself(items: list[Item], tmp_path: Path) -> None:
    every = Item("i0", items[0].image, (0, 1))
    sample = WithObject(Crop(), bank_of(tmp_path / "bank", items, AREAS), STILL)
    made = sample(every, np.random.default_rng(0))
    assert made["object_class"] == -1 and not made["object"].any()
    batch = {name: torch.stack([made[name], sample(items[0], np.random.default_rng(0))[name]]) for name in made}
    batch["image"] = torch.rand(2, 3, 20, 30)
    network = Seen(classes=2)
    mix_with_bank(batch, {}, network)["mixed_classification"].backward()
    assert torch.equal(network.images[0][0], batch["image"][0]) and not torch.equal(network.images[0][1], batch["image"][1])
    torch.testing.assert_close(network.logits.grad, torch.full((2,), (0.5 - 1) / 2))  # both images are of both classes


def problems(folder: Path, items: list[Item]) -> list[str]:
    settings = Settings({"cda.bank": str(folder), "cda.areas": [0.1, 0.7]})
    return bank_problems(Context(settings, ("red", "blue"), items, (), torch.device("cpu")))


def test_what_is_wrong_with_a_bank_is_told_before_anything_runs(items: list[Item], tmp_path: Path, image_set: Path) -> None:
    bank = tmp_path / "bank"
    assert problems(bank, items) == []
    save_label_map(bank / "i1.png", np.full((20, 30), 9, np.uint8))
    save_label_map(bank / "i2.png", np.zeros((5, 5), np.uint8))
    (bank / "i3.png").unlink()
    told = " ".join(problems(bank, items))
    assert (
        "no file for 1 of 4 images" in told and "holds the labels [9]; 2 classes allow" in told and "is 5x5 but its image" in told
    )
    for item in items:
        save_label_map(bank / f"{item.id}.png", np.zeros((20, 30), np.uint8))
    (only,) = problems(bank, items)
    assert "have no object for cda, which is an image whose only class covers a share of it within cda.areas=[0.1, 0.7]" in only


def test_a_network_without_a_decoder_needs_a_bank_and_the_bank_counts_in_its_key(image_set: Path, tmp_path: Path) -> None:
    with pytest.raises(WrongInput, match=r"cda needs recursion, which the training of cam.*because cda.bank=none"):
        planned(image_set, method="cam+cda")
    bank = shutil.copytree(image_set / "SegmentationClass", tmp_path / "bank")
    before = planned(image_set, f"cda.bank={bank}", method="cam+cda")
    check_imports(before.steps, before.images)
    name = next(iter(before.steps[0].items)).id
    label = read_label_map(bank / f"{name}.png")
    save_label_map(bank / f"{name}.png", np.where(label == 1, 2, 1).astype(np.uint8))
    after = planned(image_set, f"cda.bank={bank}", method="cam+cda")
    assert before.steps[0].key != after.steps[0].key


def online(shown: list[list[float]], found: torch.Tensor) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """A batch of images full of their own number, and a decoder that finds the classes `found` [B,4,4]."""
    count = len(shown)
    images = torch.arange(count).float()[:, None, None, None].expand(-1, 3, 16, 16)
    valid = torch.tensor([[0, 0, 16, 16]]).expand(count, -1)
    decoded = functional.one_hot(found, 4).movedim(-1, 1).float()
    return {"image": images, "labels": torch.tensor(shown).float(), "valid": valid}, {
        "decoded": decoded,
        "recursion": decoded[:, 1:],
    }


def test_a_decoder_s_objects_are_pasted_on_images_of_other_classes() -> None:
    found = torch.zeros(3, 4, 4, dtype=torch.long)
    found[0, 1:3, 1:3] = 1  # class 0 in image 0, a quarter of it
    found[1, :, :3] = 2  # class 1 in image 1, too large
    found[2, 0, 0] = 3  # class 2 in image 2, too small
    batch, outputs = online([[1, 0, 0], [0, 1, 0], [1, 0, 1]], found)
    network = Seen()
    mix_online(batch, outputs, network, STILL, AREAS)["mixed_classification"].backward()
    (mixed,) = network.images
    assert torch.equal(mixed[0], batch["image"][0]) and torch.equal(mixed[2], batch["image"][2])  # both show class 0
    assert (mixed[1] == 0).sum() == 3 * 8 * 8 and set(mixed[1].unique().tolist()) == {0, 1}
    labels = torch.tensor([3.0, 1, 1]) / 3  # image 1 has class 0 too
    torch.testing.assert_close(network.logits.grad, (0.5 - labels) / 3)
    assert not batch["labels"][1, 0]  # the batch itself stays as it is
    assert mix_online(batch, {"decoded": outputs["decoded"]}, network, STILL, AREAS) == {}  # before the recursion


def test_a_decoder_finds_no_class_that_an_image_does_not_show_and_nothing_in_its_padding() -> None:
    decoded, labels = torch.randn(4, 4, 6, 6), torch.tensor([[1.0, 0, 0], [0, 1, 1], [0, 0, 0], [1, 1, 1]])
    valid = torch.ones(4, 6, 6, dtype=torch.bool)
    valid[:, 4:] = False
    found = found_objects(decoded, labels, valid)
    assert not found[:, 4:].any() and not found[2].any()
    assert set(found[0].unique().tolist()) <= {0, 1} and set(found[1].unique().tolist()) <= {0, 2, 3}
    shares = [(found[3, :4] == index + 1).float().mean().item() for index in range(3)]
    assert usable(found, valid, 3, AREAS)[3].tolist() == [0.1 <= share <= 0.7 for share in shares]


@pytest.fixture
def with_bank(tmp_path: Path) -> Made:
    """A training of cam with CDA, whose bank is the masks."""
    images = write_images(tmp_path / "images", ("red", "blue"))
    bank = f"cda.bank={images / 'SegmentationClass'}"
    stage = plan("cam+cda", SEGMENTER, further=(bank,))[0]
    return Laboratory(tmp_path / "store", images).made(Case("cda", "cam+cda", SEGMENTER, stage, (bank,)))


def test_a_training_with_a_bank_resumes_exactly(with_bank: Made, tmp_path: Path) -> None:
    assert "mixed_classification" in with_bank.history[0]
    with pytest.raises(Stopped):
        with_bank.again(tmp_path / "halted", stop_at=1)
    resumed = with_bank.again(tmp_path / "halted")
    assert same(resumed.weights, with_bank.weights) and resumed.history == with_bank.history


@pytest.mark.slow
def test_a_training_with_a_bank_is_the_same_with_loaders(with_bank: Made, tmp_path: Path) -> None:
    loaded = with_bank.again(tmp_path / "loaded", changed={"training.loaders": 2})
    assert same(loaded.weights, with_bank.weights) and loaded.history == with_bank.history
