"""Windows cover an image once, and what is local is the same in windows as in the whole image."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segmentation.windows import MARGIN, in_windows, windows


@given(st.tuples(st.integers(2, 700), st.integers(2, 700)), st.integers(64, 300))
def test_the_kept_parts_of_as_few_windows_as_can_be_cover_the_image_once(size: tuple[int, int], side: int) -> None:
    count, overlap = np.zeros(size, int), 2 * (side // MARGIN)
    for window in windows(size, side):
        count[window.kept] += 1
        for seen, kept, length in zip(window.seen, window.kept, size, strict=True):
            assert 0 <= seen.start <= kept.start < kept.stop <= seen.stop <= length
            assert seen.stop - seen.start == min(side, length)
            for edge, of_image in ((kept.start - seen.start, kept.start), (seen.stop - kept.stop, length - kept.stop)):
                assert of_image == 0 or edge >= side // MARGIN - 1  # every cut is as far inside as the overlap allows
    assert (count == 1).all()
    for axis, length in enumerate(size):
        others = len({window.seen[axis].start for window in windows(size, side)}) - 1
        assert not others or overlap + others * (side - overlap) < length  # one fewer would be too few


def test_a_small_image_is_one_window() -> None:
    (window,) = windows((50, 64), 64)
    assert window.seen == window.kept == (slice(0, 50), slice(0, 64))


@pytest.mark.parametrize("planes", [(), (3,)])
def test_what_depends_on_near_pixels_alone_is_the_same_in_windows(planes: tuple[int, ...]) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (150, 201, 3), np.uint8)

    def mean_of_neighbours(image: np.ndarray) -> np.ndarray:
        padded = np.pad(image[..., 0].astype(float), 1, mode="edge")
        made = (padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]) / 4
        return np.broadcast_to(made, (*planes, *made.shape))

    assert np.array_equal(in_windows(rgb, 64, mean_of_neighbours), mean_of_neighbours(rgb))
