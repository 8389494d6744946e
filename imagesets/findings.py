"""What looking at an image set finds, so that a person can read it: what repeats is said once."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from imagesets.errors import named

APART = 3  # findings of one kind that each get a sentence of their own
NUMBER = re.compile(r"\d+")


@dataclass(frozen=True)
class Findings:
    """`problems` are what a run is refused for, `warnings` what is legal but suspicious, a sentence each.

    `ids` are the images that a problem is one of alone; a run without them has these problems no more.
    """

    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    ids: tuple[str, ...] = ()


def grouped(found: Iterable[tuple[str, str]]) -> list[str]:
    """Sentences about images, given as (id, sentence), where many that differ in the id and in numbers alone become one."""
    alike: dict[str, list[tuple[str, str]]] = {}
    for id, sentence in found:
        kind = NUMBER.sub("0", re.sub(rf"\b{re.escape(id)}\b", "", sentence))
        alike.setdefault(kind, []).append((id, sentence))
    return [sentence for same in alike.values() for sentence in _told(same)]


def _told(same: list[tuple[str, str]]) -> list[str]:
    if len(same) <= APART:
        return [sentence for _, sentence in same]
    others = [id for id, _ in same[1:]]
    return [f"{same[0][1]} (and {len(others)} more of the kind: {named(others)})"]
