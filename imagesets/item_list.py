"""A compact list of items: columns of bytes instead of an object for each image.

As Python objects, a million items take most of a gigabyte, and sending them takes seconds. In columns they take about 80 bytes
each. The processes of one machine share the columns, because these are pickled as buffers, which Ray does not copy.
"""

import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from pickle import PickleBuffer
from typing import Any, overload

from imagesets.deep_image import NO_RULE, DeepItem, Range
from imagesets.item import Item


class Column(Sequence[bytes]):
    """Many byte strings, one after the other in one buffer."""

    def __init__(self, content: Any, ends: Any):
        self.content, self.ends = memoryview(content).cast("B"), memoryview(ends).cast("B").cast("q")

    @classmethod
    def of(cls, parts: Iterable[bytes]) -> "Column":
        """The column of `parts`, which are read one at a time."""
        content, ends = bytearray(), array("q")
        for part in parts:
            content += part
            ends.append(len(content))
        return cls(content, ends)

    def __len__(self) -> int:
        return len(self.ends)

    def __iter__(self) -> Iterator[bytes]:
        start = 0
        for end in self.ends:
            yield self.content[start:end].tobytes()
            start = end

    def __getitem__(self, index: int) -> bytes:  # type: ignore[override]  # no slices
        return self.content[self.ends[index - 1] if index else 0 : self.ends[index]].tobytes()

    def __reduce_ex__(self, protocol: Any) -> tuple:
        if protocol >= 5:
            return Column, (PickleBuffer(self.content), PickleBuffer(self.ends))
        return Column, (self.content.tobytes(), self.ends.tobytes())


class ItemList(Sequence[Item]):
    """Items in the order of their list; each is made when it is read. Their files lie below `root`."""

    def __init__(self, root: Path, ids: Column, images: Column, labels: Column, masks: Column | None, range: Range = NO_RULE):
        self.root, self.ids, self.images, self.labels, self.masks, self.range = str(root), ids, images, labels, masks, range

    @classmethod
    def of(
        cls,
        root: Path,
        ids: Iterable[str],
        images: Iterable[str],
        labels: Iterable[tuple[int, ...]],
        range: Range = NO_RULE,
    ) -> "ItemList":
        """The list of columns of equal length, without masks; the `root` of `images` is kept once.

        `range` is the rule for images of more than 8 bits (`imagesets.deep_image`).
        """
        return cls(
            root,
            Column.of(id.encode() for id in ids),
            _below(root, images),
            Column.of(array("i", own).tobytes() for own in labels),
            None,
            range,
        )

    def masked(self, masks: Iterable[str]) -> "ItemList":
        """The same items with their masks; the other columns are shared."""
        return ItemList(Path(self.root), self.ids, self.images, self.labels, _below(self.root, masks), self.range)

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> list[Item]: ...
    def __getitem__(self, index: int | slice) -> Item | list[Item]:
        if isinstance(index, slice):
            return [self._item(place) for place in range(len(self))[index]]
        return self._item(range(len(self))[index])

    def names(self) -> Iterator[str]:
        """All ids. This makes no items, which would take ten times as long; nor do the methods below."""
        return (id.decode() for id in self.ids)

    def labelled(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """The id and the image-level labels of each."""
        return ((id.decode(), _numbers(labels)) for id, labels in zip(self.ids, self.labels, strict=True))

    def image_files(self) -> Iterator[str]:
        """The path of each image."""
        return (os.path.join(self.root, os.fsdecode(path)) for path in self.images)

    def mask_files(self) -> Iterator[str]:
        """The path of each mask; none if the list has no masks."""
        return (os.path.join(self.root, os.fsdecode(path)) for path in self.masks or ())

    def _item(self, place: int) -> Item:
        mask = None if self.masks is None else Path(self.root, os.fsdecode(self.masks[place]))
        image = Path(self.root, os.fsdecode(self.images[place]))
        about = self.ids[place].decode(), image, _numbers(self.labels[place]), mask
        return Item(*about) if self.range == NO_RULE else DeepItem(*about, self.range)


def _below(root: str | Path, paths: Iterable[str]) -> Column:
    start = os.path.join(root, "")
    return Column.of(os.fsencode(path.removeprefix(start)) for path in paths)


def _numbers(content: bytes) -> tuple[int, ...]:
    return tuple(array("i", content))
