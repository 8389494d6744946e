"""LPCAM's k-means against a plain N x K x C broadcast, as the published package computes it.

Run from the repository root: python -m benchmarks.kmeans   (half a minute, 4 GB, one thread, Linux)

Prints the CPU time of one iteration and the growth of the peak resident memory for both, and fails where their centres
differ. Ours reads the vectors from a file (from the page cache here); the broadcast holds them in memory.
"""

from tempfile import TemporaryFile

import numpy as np
import torch

from benchmarks.clock import measured
from clustering.kmeans import lloyd
from clustering.vector_file import VectorFile

CLUSTERS, CHANNELS, CHUNK_ROWS, ITERATIONS = 12, 2048, 512, 3


def broadcast_iteration(vectors: torch.Tensor, centres: torch.Tensor) -> torch.Tensor:
    """One iteration on [N,C] and [K,C] through every pair's product, [N,K,C]."""
    normalised = vectors[:, None] / vectors[:, None].norm(dim=-1, keepdim=True)
    others = centres[None] / centres[None].norm(dim=-1, keepdim=True)
    nearest = (1 - (normalised * others).sum(dim=-1)).argmin(dim=1)
    return torch.stack([vectors[nearest == index].mean(dim=0) for index in range(len(centres))])


def broadcast(vectors: torch.Tensor, centres: torch.Tensor) -> torch.Tensor:
    """As many iterations of it as are measured."""
    for _ in range(ITERATIONS):
        centres = broadcast_iteration(vectors, centres)
    return centres


def compare(count: int) -> None:
    """Measure both on `count` sparse vectors in as many groups as centres: rounding then moves none from one to another."""
    rng = np.random.default_rng(0)
    groups = rng.standard_normal((CLUSTERS, CHANNELS), np.float32)
    noise = rng.standard_normal((count, CHANNELS), np.float32)
    vectors = torch.from_numpy(groups[np.arange(count) % CLUSTERS] + noise).relu()
    first = vectors[:CLUSTERS]
    with TemporaryFile() as file:
        stored = VectorFile(file, CHANNELS, CHUNK_ROWS)
        stored.append(vectors)
        ours, our_time, our_memory = measured(lambda: lloyd(stored.chunks, first, 0, ITERATIONS)[0])
    theirs, their_time, their_memory = measured(lambda: broadcast(vectors, first))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    held = vectors.nbytes / 2**20
    print(
        f"N={count}: {their_time / ITERATIONS:.3f} -> {our_time / ITERATIONS:.3f} s CPU an iteration "
        f"({their_time / our_time:.1f}x), "
        f"peak memory {their_memory + held:.0f} (vectors {held:.0f}) -> {our_memory:.0f} MB, equal centres"
    )


def main() -> None:
    """Print one line per number of vectors."""
    torch.set_num_threads(1)
    print(f"k-means, K={CLUSTERS}, C={CHANNELS}, {ITERATIONS} iterations, one thread: broadcast -> streamed")
    for count in (4_000, 20_000):
        compare(count)


if __name__ == "__main__":
    main()
