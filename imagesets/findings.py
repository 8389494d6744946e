"""The findings on an image set in readable form: repeated findings become one sentence."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from imagesets.errors import named

APART = 3  # up to this number, findings of one kind get a sentence each
NUMBER = re.compile(r"-?\d+(\.\d+)?(e[-+]?\d+)?")


@dataclass(frozen=True)
class Findings:
    """`problems` stop a run; `warnings` are legal but suspicious. Both are sentences.

    `ids` are the images with a problem of their own; a run without these images does not have these problems.
    """

    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    ids: tuple[str, ...] = ()


def grouped(found: Iterable[tuple[str, str]]) -> list[str]:
    """Sentences about images, given as (id, sentence); many sentences that differ only in ids and numbers become one."""
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
