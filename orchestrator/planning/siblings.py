"""Results of one per-image stage over several lists share their records: which records a new result takes over from which."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

Manifest = dict[str, Any]


@dataclass(frozen=True)
class Sibling:
    """A result of the same stage over another list; the records of `count` images are taken over from it."""

    manifest: Manifest
    count: int


def shared_out(ids: Iterable[str], results: Iterable[tuple[Manifest, Iterable[str]]]) -> list[Sibling]:
    """The results, each with the ids that it has, that have some of `ids`; each id counts for the first one that has it.

    First comes the one with the most of them; of those with equally many, the one over the fewest images.
    """
    left = set(ids)
    having = [(left.intersection(own), manifest) for manifest, own in results]
    having.sort(key=lambda pair: (-len(pair[0]), pair[1]["items"], pair[1]["key"]))
    found = []
    for own, manifest in having:
        if taken := left & own:
            found.append(Sibling(manifest, len(taken)))
            left -= taken
    return found
