"""Maps: one float map per class present in an image, as a method delivers them and refiners and scores read them.

A network's maps are kept on its own grid in half precision: about 12 kB a class, against 375 kB at full size (which the
maps of a CRF and of other programs take). A reader makes larger maps of them. It is a pure function that the stage's recipe
names; see `maps.reading`.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch

from maps.grids import strided

# (maps, whether at full size) -> [n,h,w] on the grid `maps.extent(full)`, or [1+n,h,w] with the method's own background map first
Reader = Callable[["Maps", bool], torch.Tensor]


@dataclass(frozen=True)
class Maps:
    """Maps of one image: `keys` [n] 0-based class indices, `size` (H,W) of the image, and the arrays that their reader reads.

    `grids` are [m,h_r,w_r] arrays, one per scale or whatever else the method sums over; the method and its reader agree on
    the meaning of the m planes. `extras` are further arrays by name, which are kept unchanged.
    """

    keys: np.ndarray
    size: tuple[int, int]
    grids: tuple[np.ndarray, ...]
    extras: Mapping[str, np.ndarray] = field(default_factory=dict)
    read: Reader | None = None  # the method that writes the maps does not know it

    def strided(self) -> torch.Tensor:
        """float32 [n,ceil(H/4),ceil(W/4)]."""
        return self._strided[len(self._strided) - len(self.keys) :]

    def full(self) -> torch.Tensor:
        """float32 [n,H,W]."""
        return self._full[len(self._full) - len(self.keys) :]

    def planes(self, full: bool) -> torch.Tensor:
        """`full()` or `strided()`, behind the method's own background map if it has one: [n,h,w] or [1+n,h,w]."""
        return self._full if full else self._strided

    def background(self, full: bool) -> torch.Tensor | None:
        """The method's own background map, float32 [H,W] or on the stride-4 grid; it replaces every constant threshold.

        None if the method has no such map. An image without classes is background everywhere: ones.
        """
        if len(self.keys) == 0:
            return torch.ones(self.extent(full))
        planes = self.planes(full)
        return planes[0] if len(planes) > len(self.keys) else None

    def extent(self, full: bool) -> tuple[int, int]:
        """Height and width of the image, or of the stride-4 grid over it."""
        return self.size if full else strided(self.size)

    def tensors(self) -> list[torch.Tensor]:
        """The grids, float32 [m,h_r,w_r]."""
        return [torch.from_numpy(np.asarray(grid, np.float32)) for grid in self.grids]

    @cached_property
    def _strided(self) -> torch.Tensor:
        return self._read(full=False)

    @cached_property
    def _full(self) -> torch.Tensor:
        return self._read(full=True)

    def _read(self, full: bool) -> torch.Tensor:
        if len(self.keys) == 0:
            return torch.zeros((0, *self.extent(full)))
        if self.read is None:
            raise ValueError("these maps have no reader; the recipe of the stage that writes them must name one (read: ...)")
        planes = self.read(self, full)
        if len(planes) - len(self.keys) not in (0, 1) or planes.shape[1:] != self.extent(full):
            expected = f"{len(self.keys)} maps of {self.extent(full)}, or one more for background"
            raise ValueError(f"the reader {self.read.__name__} gives {list(planes.shape)}, not {expected}")
        return planes

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays that the store keeps: the grids in half precision, the extras unchanged."""
        grids = {f"grid{index}": np.asarray(grid, np.float16) for index, grid in enumerate(self.grids)}
        return {"keys": np.asarray(self.keys, np.int64), "size": np.asarray(self.size), **grids, **self.extras}

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray], read: Reader) -> "Maps":
        """The inverse of `arrays` (up to half precision), with the reader of the stage that wrote them."""
        grids = [name for index in range(len(arrays)) if (name := f"grid{index}") in arrays]
        extras = {name: array for name, array in arrays.items() if name not in ("keys", "size", *grids)}
        height, width = (int(side) for side in arrays["size"])
        return cls(arrays["keys"], (height, width), tuple(arrays[name] for name in grids), extras, read)


class StoredMaps(Mapping[str, Maps]):
    """The maps that a stage stored, by image id, each with the stage's reader."""

    def __init__(self, records: Mapping[str, Mapping[str, np.ndarray]], read: Reader) -> None:
        self.records, self.read = records, read

    def __getitem__(self, id: str) -> Maps:
        return Maps.of(self.records[id], self.read)

    def __iter__(self) -> Iterator[str]:
        return iter(self.records)

    def __len__(self) -> int:
        return len(self.records)
