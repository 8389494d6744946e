"""The nearest valid name, for every sentence that refuses a name."""

import difflib
from collections.abc import Iterable


def closest(word: str, known: Iterable[str]) -> str:
    """The name that is most like `word`; names with the same end (`recam.lr`, `cam.lr`) come first."""
    last = word.rpartition(".")[2]
    return max(
        sorted(known),
        key=lambda name: (name.rpartition(".")[2] == last, difflib.SequenceMatcher(None, word, name).ratio()),
        default="none",
    )


def nearest(word: str, known: Iterable[str], see: str = "wsss-orch ls") -> str:
    """`; did you mean 'lpcam'?`, or the list of all names if none is near; `see` is the command that lists very many."""
    names = sorted(known)
    if not names:
        return ""
    small, lower = word.lower(), {name.lower(): name for name in names}
    if close := difflib.get_close_matches(small, lower, cutoff=0.5):
        # of equally near names, one with the same beginning: people mistype the end of a word more often
        best = max(close, key=lambda name: (difflib.SequenceMatcher(None, small, name).ratio(), name[:1] == small[:1]))
        return f"; did you mean {lower[best]!r}?"
    return f"; there are: {', '.join(names)}" if len(names) <= 30 else f"; see `{see}`"
