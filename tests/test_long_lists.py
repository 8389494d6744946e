"""The parts for very long image lists: items in columns, shards cut on demand, files checked some at a time."""

import json
import pickle
import threading
from pathlib import Path

import numpy as np
import pytest

from imagesets import side_by_side as threads
from imagesets.folder import open_folder
from imagesets.item import Item
from imagesets.item_list import ItemList
from imagesets.labels import read_names
from imagesets.side_by_side import side_by_side
from orchestrator.planning.fingerprint import Fingerprints
from orchestrator.storage.shards import SHARD, Shards, StoredRecords, shard_path, write_names, write_shard
from orchestrator.storage.store import digest

IDS = ("a", "ä", "c" * 40)
LABELS: tuple[tuple[int, ...], ...] = ((0,), (), (3, 300))


def listed(root: Path, with_masks: bool = True) -> ItemList:
    images = [f"{root}/JPEGImages/{id}.jpg" for id in IDS]
    items = ItemList.of(root, IDS, images, LABELS)
    return items.masked(f"{root}/Masks/{id}.png" for id in IDS) if with_masks else items


def plain(root: Path) -> list[Item]:
    return [
        Item(id, root / "JPEGImages" / f"{id}.jpg", labels, root / "Masks" / f"{id}.png")
        for id, labels in zip(IDS, LABELS, strict=True)
    ]


def test_columns_give_back_the_items_that_went_in(tmp_path: Path) -> None:
    items = listed(tmp_path)
    assert list(items) == plain(tmp_path)
    assert items[1:] == plain(tmp_path)[1:] and items[-1] == plain(tmp_path)[-1]
    assert list(items.names()) == list(IDS) and list(items.labelled()) == list(zip(IDS, LABELS, strict=True))
    assert list(items.image_files()) == [str(item.image) for item in plain(tmp_path)]
    assert list(items.mask_files()) == [str(item.mask) for item in plain(tmp_path)]
    unmasked = listed(tmp_path, with_masks=False)
    assert all(item.mask is None for item in unmasked) and not list(unmasked.mask_files())
    with pytest.raises(IndexError):
        items[3]


def test_files_that_lie_elsewhere_keep_their_paths(tmp_path: Path) -> None:
    masks = ["/masks/augmented/a.png", f"{tmp_path}x/b.png", f"{tmp_path}/c.png"]
    items = ItemList.of(tmp_path, "abc", [f"{tmp_path}/{id}.jpg" for id in "abc"], [(0,)] * 3).masked(masks)
    assert list(items.mask_files()) == masks == [str(item.mask) for item in items]


def test_an_empty_list_has_no_items(tmp_path: Path) -> None:
    assert list(ItemList.of(tmp_path, [], [], [])) == []


@pytest.mark.parametrize("protocol", [4, 5])
def test_columns_survive_pickling(tmp_path: Path, protocol: int) -> None:
    assert list(pickle.loads(pickle.dumps(listed(tmp_path), protocol))) == plain(tmp_path)


def test_the_columns_of_a_long_list_are_pickled_as_buffers_and_are_not_copied(tmp_path: Path) -> None:
    ids = [f"2007_{number:06d}" for number in range(10_000)]
    items = ItemList.of(tmp_path, ids, (f"{tmp_path}/{id}.jpg" for id in ids), ((1, 2) for _ in ids))
    buffers: list[pickle.PickleBuffer] = []
    text = pickle.dumps(items, 5, buffer_callback=buffers.append)
    assert len(text) < 1000
    assert sum(buffer.raw().nbytes for buffer in buffers) < 80 * len(ids)
    shared = pickle.loads(text, buffers=buffers)
    assert shared[9_999] == items[9_999]
    assert np.shares_memory(np.frombuffer(shared.ids.content, np.uint8), np.frombuffer(items.ids.content, np.uint8))


def test_a_fingerprint_is_that_of_the_whole_list_written_as_one_json(image_set: Path) -> None:
    items = open_folder(image_set, {"labels": "auto", "masks": ["SegmentationClass"]}).items("train", True)
    labels = json.dumps([[item.id, item.labels] for item in items])
    contents = digest("".join(digest(item.image.read_bytes()) for item in items).encode())
    masks = digest("".join(digest(item.mask.read_bytes()) for item in items if item.mask).encode())
    fingerprints = Fingerprints(image_set)
    assert fingerprints.of_images(items) == digest((labels + contents).encode())
    assert fingerprints.of_masks(items) == digest((json.dumps([False] * len(items)) + masks).encode())


def test_a_file_that_changes_changes_the_fingerprint_and_is_known_again_when_it_is_back(image_set: Path) -> None:
    items = open_folder(image_set, {"labels": "auto", "masks": ["SegmentationClass"]}).items("train")
    fingerprints = Fingerprints(image_set)
    before, content = fingerprints.of_images(items), items[0].image.read_bytes()
    items[0].image.write_bytes(content + b"x")
    assert fingerprints.of_images(items) != before
    items[0].image.write_bytes(content)
    assert fingerprints.of_images(items) == before


def test_things_are_looked_at_in_order_and_not_all_are_taken_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "AT_ONCE", 8)
    taken = 0
    lock = threading.Lock()

    def things() -> object:
        nonlocal taken
        for number in range(100):
            with lock:
                taken += 1
            yield number

    doubled = side_by_side(lambda number: 2 * number, things(), 3)  # type: ignore[arg-type, var-annotated]
    assert next(doubled) == 0 and taken == 8
    assert [0, *doubled] == list(range(0, 200, 2))


def test_images_of_the_same_classes_share_their_names(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("a dog cat\nb dog cat\nc dog\n")
    names = read_names(tmp_path / "labels.txt")
    assert names == {"a": ("dog", "cat"), "b": ("dog", "cat"), "c": ("dog",)}
    assert names["a"] is names["b"]


def test_a_shard_is_cut_without_cutting_the_others() -> None:
    class Counted(list):
        cuts = 0

        def __getitem__(self, index):  # type: ignore[no-untyped-def]
            Counted.cuts += 1
            return super().__getitem__(index)

    cut = Shards(Counted(range(10 * SHARD + 1)))
    assert len(cut) == 11 and cut[10] == [10 * SHARD] and Counted.cuts == 1
    with pytest.raises(IndexError):
        cut[11]


def test_an_id_that_no_shard_has_is_no_record(tmp_path: Path) -> None:
    names = [f"image{number}" for number in range(2 * SHARD)]
    for index, part in enumerate(Shards(names)):
        write_shard(shard_path(tmp_path, index), {name: {"label": np.zeros(1)} for name in part}, "inputs")
    write_names(tmp_path, Shards(names))
    stored = StoredRecords(tmp_path)
    assert list(stored) == names and len(pickle.loads(pickle.dumps(stored))) == len(names)
    for unknown in ("image", *(f"other{number}" for number in range(50))):
        assert unknown not in stored
