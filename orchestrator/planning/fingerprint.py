"""The fingerprint of an image list: content hashes of its images and labels, and of its masks apart; and of code.

Contents are hashed once; after that sizes and modification times, which never enter a key, tell that they are unchanged.
"""

import json
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from imagesets.item import Item
from orchestrator.planning.code_version import code_version, sources
from orchestrator.storage.store import digest, read_json, write_json


class Fingerprints:
    """Fingerprints of lists, remembered in `<store>/cache/fingerprints.json` once `save` is called."""

    def __init__(self, store: Path):
        self.path = store / "cache" / "fingerprints.json"
        self.known: dict[str, str] = read_json(self.path) or {}
        self._sources = ""

    def of_images(self, items: Sequence[Item]) -> str:
        """Covers ids, image-level labels and image contents, in order."""
        labels = json.dumps([[item.id, item.labels] for item in items])
        return digest((labels + self._of_files(item.image for item in items)).encode())

    def of_masks(self, items: Sequence[Item]) -> str:
        """Covers mask contents, in order; an image without a mask counts as such."""
        missing = json.dumps([item.mask is None for item in items])
        return digest((missing + self._of_files(item.mask for item in items if item.mask)).encode())

    def of_file(self, path: Path) -> str:
        """Content hash of one file."""
        return self._of_files([path])

    def of_folder(self, folder: Path, ids: Iterable[str]) -> str:
        """Covers names and contents of the files that are named after `ids`, an id and one suffix each; not the folder's path."""
        wanted = set(ids)
        names = sorted(
            entry.name for entry in os.scandir(folder) if os.path.splitext(entry.name)[0] in wanted and entry.is_file()
        )
        return digest((json.dumps(names) + self._of_files(folder / name for name in names)).encode())

    def of_code(self, *references: str) -> str:
        """The code version of functions, parsed anew only after some file of the project has changed."""
        if not self._sources:
            self._sources = digest(json.dumps(_stats(sources())).encode())
        known_as = f"code {self._sources} {' '.join(references)}"
        if known_as not in self.known:
            self.known[known_as] = code_version(*references)
        return self.known[known_as]

    def save(self) -> None:
        """Remember what was hashed."""
        write_json(self.path, self.known)

    def _of_files(self, paths: Iterable[Path]) -> str:
        files = list(paths)
        known_as = digest(json.dumps(_stats(files)).encode())
        if known_as not in self.known:
            with ThreadPoolExecutor() as pool:
                self.known[known_as] = digest("".join(pool.map(lambda path: digest(path.read_bytes()), files)).encode())
        return self.known[known_as]


def _stats(files: Iterable[Path]) -> list[tuple[str, int, int]]:
    return [(str(path), (stat := path.stat()).st_size, stat.st_mtime_ns) for path in files]
