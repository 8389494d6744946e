"""The note in a folder of prepared lists, labels and masks: what they were made from, and by which rule."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from imagesets.files import replacing, sha256

NAME = "prepared.json"


@dataclass(frozen=True)
class Note:
    """`digests` of the annotation files (by their paths in the folder of the image set) and `states`, which change with them.

    `folders` hold the images; `whole` says that the preparation has ended.
    """

    rule: str
    digests: dict[str, str]
    states: Mapping[str, list[int]]
    folders: tuple[str, ...] = ()
    whole: bool = False

    @property
    def origin(self) -> str:
        """The rule and the digest of the annotations, for protocols."""
        together = hashlib.sha256(json.dumps(sorted(self.digests.values())).encode()).hexdigest()
        return f"{self.rule}, annotations {together[:8]}"

    def outdated(self, root: Path) -> str:
        """The annotation file that has other content now, or ""; files that are gone do not count."""
        # a copy of the same file has another time, so its content decides
        changed = (name for name, known in self.states.items() if (root / name).is_file() and _state(root / name) != known)
        return next((name for name in changed if sha256(root / name) != self.digests[name]), "")


def note_of(root: Path, rule: str, files: Iterable[Path]) -> Note:
    """The note for a preparation that begins."""
    names = {path.relative_to(root).as_posix(): path for path in files}
    digests = {name: sha256(path) for name, path in names.items()}
    return Note(rule, digests, {name: _state(path) for name, path in names.items()})


def read_note(folder: Path) -> Note | None:
    """The note in a folder, if there is one."""
    path = folder / NAME
    return Note(**json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None


def write_note(folder: Path, note: Note) -> None:
    """Write the note, atomically."""
    with replacing(folder / NAME) as partial:
        partial.write_text(json.dumps(asdict(note), indent=1), encoding="utf-8")


def _state(path: Path) -> list[int]:
    return [(stat := path.stat()).st_size, stat.st_mtime_ns]
