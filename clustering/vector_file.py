"""Float32 vectors on disk, written once and then read in passes: memory does not grow with their number."""

from collections.abc import Callable, Iterable, Iterator
from typing import IO

import numpy as np
import torch

from imagesets.errors import WrongInput


class VectorFile:
    """Vectors [N,C] in an open, empty binary `file`; `chunk_rows` x C x 4 bytes at a time are mapped into memory."""

    def __init__(self, file: IO[bytes], channels: int, chunk_rows: int) -> None:
        self.file, self.channels, self.chunk_rows = file, channels, chunk_rows
        self.count = 0

    def __len__(self) -> int:
        return self.count

    def append(self, vectors: torch.Tensor) -> None:
        """Add vectors [n,C] at the end. Raises WrongInput where the disk is full."""
        try:
            self.file.write(vectors.to("cpu", torch.float32).contiguous().numpy().data)
            self.file.flush()
        except OSError as error:
            raise WrongInput(f"feature vectors cannot be written ({error.strerror}); set TMPDIR to a larger disk") from error
        self.count += len(vectors)

    def chunks(self) -> Iterator[torch.Tensor]:
        """One pass over all vectors in the order of writing, [chunk_rows,C] at a time; each chunk is unmapped after use."""
        for start in range(0, self.count, self.chunk_rows):
            yield self.span(start, min(self.chunk_rows, self.count - start))

    def chunks_on(self, device: torch.device) -> Callable[[], Iterable[torch.Tensor]]:
        """What begins a pass for `device`. A GPU keeps all chunks if half of its free memory holds them."""
        if device.type != "cuda" or 4 * self.channels * self.count > torch.cuda.mem_get_info(device)[0] / 2:
            return self.chunks
        kept = [chunk.to(device) for chunk in self.chunks()]
        return lambda: kept

    def rows(self, indices: Iterable[int]) -> torch.Tensor:
        """The vectors at `indices`, [n,C]."""
        empty = torch.empty((0, self.channels))
        return torch.cat([empty, *(self.span(int(index), 1) for index in indices)])

    def span(self, start: int, count: int) -> torch.Tensor:
        """The `count` vectors from `start` on, [count,C]; at least one."""
        # copy-on-write: nothing here writes, but torch wants writable memory
        return torch.from_numpy(np.memmap(self.file, np.float32, "c", 4 * self.channels * start, (count, self.channels)))
