"""Compressed run lengths, the form of a region in COCO's annotations and results.

A region is read column by column, and the lengths of its runs are counted; the first run is outside. From the fourth run on,
the difference to the length two places before is kept. Each number is written in groups of five bits, the lowest group first.
A sixth bit says that more groups follow; the highest bit of the last group is the sign. A group is the character of its value
plus 48.
"""

import numpy as np


def encode(region: np.ndarray) -> str:
    """The compressed run lengths of a region bool [H,W]."""
    lengths = run_lengths(region)
    return "".join(_characters(length - (lengths[index - 2] if index > 2 else 0)) for index, length in enumerate(lengths))


def run_lengths(region: np.ndarray) -> list[int]:
    """Lengths of the runs of a region bool [H,W] down its columns, outside and inside in turn; the first may be 0."""
    pixels = np.asarray(region, bool).ravel(order="F")
    starts = np.flatnonzero(np.diff(pixels, prepend=False))  # where a run begins, except the first
    return [int(length) for length in np.diff(starts, prepend=0, append=pixels.size)]


def _characters(number: int) -> str:
    written = ""
    while True:
        group, number = number & 31, number >> 5
        more = number != (-1 if group & 16 else 0)
        written += chr(48 + group + 32 * more)
        if not more:
            return written
