from pathlib import Path
from tempfile import TemporaryFile

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from clustering.kmeans import assign, initial_rows, lloyd, update
from clustering.vector_file import VectorFile
from imagesets.errors import WrongInput
from training.randomness import generator

GOLDEN = np.load(Path(__file__).parent / "golden" / "lpcam_kmeans.npz")


def vectors(seed: int, count: int, channels: int = 8) -> torch.Tensor:
    """Non-negative and many of them zero, as features after a ReLU are."""
    return torch.randn((count, channels), generator=torch.Generator().manual_seed(seed)).relu()


def clustered(rows: torch.Tensor, clusters: int, tolerance: float = 1e-6, chunk: int = 1000) -> tuple[torch.Tensor, int]:
    first = rows[initial_rows(len(rows), clusters, generator("test"))]
    return lloyd(lambda: rows.split(chunk), first, tolerance, max_iterations=100)


@pytest.mark.parametrize(("case", "tolerance"), [("tol5", 5), ("tol1e-4", 1e-4)])
@pytest.mark.parametrize("chunk", [13, 260])
def test_centres_iterations_and_assignments_are_the_golden_ones(case, tolerance, chunk):
    rows = torch.from_numpy(GOLDEN["X"])
    first, total = rows[GOLDEN[f"{case}_init"]], int(GOLDEN[f"{case}_iters"])
    centres, iterations = lloyd(lambda: rows.split(chunk), first, tolerance, max_iterations=1000)
    assert iterations == total
    np.testing.assert_allclose(centres, GOLDEN[f"{case}_centers"], rtol=1e-4)
    before, _ = lloyd(lambda: rows.split(chunk), first, tolerance, max_iterations=total - 1)
    if total > 1:  # the published assignments refer to the centres before the last update
        assert assign(rows, before).tolist() == GOLDEN[f"{case}_ids"].tolist()


@settings(max_examples=50)
@given(st.integers(0, 10_000), st.integers(2, 80), st.integers(1, 6), st.integers(1, 90))
def test_the_chunk_size_does_not_change_the_centres(seed, count, clusters, chunk):
    rows = vectors(seed, count).double()  # so that no rounding decides between two centres
    whole, chunked = clustered(rows, clusters, chunk=1000)[0], clustered(rows, clusters, chunk=chunk)[0]
    torch.testing.assert_close(chunked, whole, rtol=1e-12, atol=1e-12)


@settings(max_examples=50)
@given(st.integers(0, 10_000), st.integers(3, 60), st.integers(1, 5))
def test_on_unit_vectors_no_iteration_lowers_the_summed_cosine(seed, count, clusters):
    # for vectors of one length the Euclidean mean points where the spherical one does, so Lloyd's argument holds
    rows = normalize(vectors(seed, count).double() + 1e-3, dim=1)
    centres = rows[initial_rows(count, clusters, generator(seed))]
    similarity = -torch.inf
    for _ in range(8):
        reached = (rows @ normalize(centres, dim=1).T).amax(dim=1).sum().item()
        assert reached >= similarity - 1e-9
        similarity, centres = reached, update([rows], centres)


@settings(max_examples=50)
@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(1, 12))
def test_centres_are_finite_and_within_the_data(seed, count, clusters):
    rows = vectors(seed, count)
    centres, _ = clustered(rows, clusters)
    assert centres.shape == (min(count, clusters), 8)
    assert torch.isfinite(centres).all()
    assert (centres >= rows.amin(0) - 1e-5).all() and (centres <= rows.amax(0) + 1e-5).all()


def test_separate_directions_are_found_whatever_the_lengths():
    directions = torch.eye(3)
    rows = torch.cat([direction * torch.linspace(0.5, 9, 20)[:, None] for direction in directions])
    centres, _ = lloyd(lambda: [rows], rows[[0, 20, 40]], 1e-9, 100)
    torch.testing.assert_close(centres, directions * rows[:20].sum(1).mean())


@pytest.mark.parametrize(("tolerance", "iterations"), [(0.05, 1), (0.005, 2)])
def test_the_end_comes_when_the_squared_shift_is_below_the_tolerance(tolerance, iterations):
    rows = torch.tensor([[1.0], [1.2]])  # the one centre moves by 0.1, and then no more
    centres, total = lloyd(lambda: [rows], rows[:1], tolerance, max_iterations=100)
    assert total == iterations and centres.item() == pytest.approx(1.1)


def test_the_shift_is_the_sum_of_the_lengths_of_all_shifts():
    rows = torch.tensor([[1.0, 0.0], [1.2, 0.0], [0.0, 1.0], [0.0, 1.2]])  # two centres move by 0.1: (0.1 + 0.1)^2 = 0.04
    assert lloyd(lambda: [rows], rows[[0, 2]], 0.041, max_iterations=100)[1] == 1
    assert lloyd(lambda: [rows], rows[[0, 2]], 0.039, max_iterations=100)[1] == 2


def test_an_empty_cluster_keeps_its_centre():
    rows = torch.tensor([[1.0, 0.0], [2.0, 0.0]])
    centres = torch.tensor([[1.0, 0.0], [0.0, 5.0]])
    assert update([rows], centres).tolist() == [[1.5, 0.0], [0.0, 5.0]]


def test_all_zero_vectors_join_the_first_centre_and_do_no_harm():
    rows = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    assert assign(rows, rows[1:]).tolist() == [0, 0, 1]
    centres, _ = clustered(torch.zeros(5, 4), 3)
    assert centres.tolist() == [[0.0] * 4] * 3


def test_one_cluster_is_the_mean():
    rows = vectors(3, 50)
    torch.testing.assert_close(clustered(rows, 1)[0][0], rows.mean(0))


def test_fewer_vectors_than_clusters_are_their_own_centres_and_none_are_none():
    rows = torch.eye(3)
    assert sorted(clustered(rows, 12)[0].tolist()) == sorted(rows.tolist())
    assert lloyd(lambda: [], torch.empty(0, 4), 5, 100)[0].shape == (0, 4)


def test_the_same_seed_draws_the_same_distinct_rows():
    first, again, other = (initial_rows(100, 12, generator(seed)).tolist() for seed in (1, 1, 2))
    assert first == again != other
    assert len(set(first)) == 12


def test_a_file_gives_back_what_was_written_in_chunks_and_by_row():
    rows = vectors(1, 11)
    with TemporaryFile() as file:
        stored = VectorFile(file, channels=8, chunk_rows=4)
        for part in rows.split(3):
            stored.append(part)
        stored.append(rows[:0])
        assert len(stored) == 11
        assert [len(chunk) for chunk in stored.chunks()] == [4, 4, 3]
        assert torch.equal(torch.cat(list(stored.chunks())), rows)
        assert torch.equal(stored.rows([10, 0]), rows[[10, 0]])
        assert stored.rows([]).shape == (0, 8)


def test_a_full_disk_is_a_sentence_that_names_what_to_change():
    with open("/dev/full", "wb") as file, pytest.raises(WrongInput, match=r"No space left.*TMPDIR"):
        VectorFile(file, channels=8, chunk_rows=4).append(vectors(1, 5000))
