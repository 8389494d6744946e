"""Fingerprints of image lists (content hashes of images with labels, and of masks) and of code.

Contents are hashed once. Later, unchanged sizes and modification times mean unchanged contents; these never enter a key.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

from imagesets.deep_image import NO_RULE
from imagesets.files import composed
from imagesets.item_list import ItemList
from imagesets.side_by_side import AT_ONCE, side_by_side
from orchestrator.planning.code_version import code_version, sources
from orchestrator.storage.store import digest, read_json, write_json


class Fingerprints:
    """Fingerprints of lists, remembered in `<store>/cache/fingerprints.json` once `save` is called."""

    def __init__(self, store: Path):
        self.path = store / "cache" / "fingerprints.json"
        self.known: dict[str, str] = read_json(self.path) or {}
        self._sources = ""

    def of_images(self, items: ItemList) -> str:
        """Covers ids, image-level labels and image contents, in order, and a rule for images of more than 8 bits."""
        rule = [] if items.range == NO_RULE else [f"range {items.range}"]
        return _digest(_json(items.labelled()), [self._of_files(items.image_files)], rule)

    def of_masks(self, items: ItemList) -> str:
        """Covers mask contents, in order; an image without a mask counts as such."""
        missing = (items.masks is None for _ in range(len(items)))
        return _digest(_json(missing), [self._of_files(items.mask_files)])

    def of_file(self, path: Path) -> str:
        """Content hash of one file."""
        return self._of_files(lambda: [str(path)])

    def of_folder(self, folder: Path, ids: Iterable[str]) -> str:
        """Covers names and contents of the files named after `ids` (an id and one suffix), but not the folder's path."""
        wanted = set(ids)
        names = sorted(
            entry.name for entry in os.scandir(folder) if composed(os.path.splitext(entry.name)[0]) in wanted and entry.is_file()
        )
        return _digest(_json(names), [self._of_files(lambda: (os.path.join(folder, name) for name in names))])

    def of_code(self, *references: str) -> str:
        """The code version of functions; the code is parsed again only after a file of the project has changed."""
        if not self._sources:
            self._sources = _digest(_json(_stats(map(str, sources()))))
        known_as = f"code {self._sources} {' '.join(references)}"
        if known_as not in self.known:
            self.known[known_as] = code_version(*references)
        return self.known[known_as]

    def save(self) -> None:
        """Remember what was hashed."""
        write_json(self.path, self.known)

    def _of_files(self, paths: Callable[[], Iterable[str]]) -> str:
        known_as = _digest(_json(_stats(paths())))
        if known_as not in self.known:
            self.known[known_as] = _digest(side_by_side(lambda path: digest(Path(path).read_bytes()), paths()))
        return self.known[known_as]


def _stats(paths: Iterable[str]) -> Iterator[tuple[str, int, int]]:
    return ((path, (stat := os.stat(path)).st_size, stat.st_mtime_ns) for path in paths)


def _json(entries: Iterable[Any]) -> Iterator[str]:
    """The text of json.dumps for the whole list, in pieces: one text of a million entries would be held three times."""
    left, between = iter(entries), ""
    yield "["
    while some := list(islice(left, AT_ONCE)):
        yield between + json.dumps(some)[1:-1]
        between = ", "
    yield "]"


def _digest(*texts: Iterable[str]) -> str:
    """The `digest` of all parts joined."""
    whole = hashlib.blake2b(digest_size=16)
    for part in chain.from_iterable(texts):
        whole.update(part.encode())
    return whole.hexdigest()
