"""Maps: the golden vectors of the public IRN code, storing and loading, and readers as new methods need them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from maps.extraction import to_unit_peaks
from maps.grids import resize
from maps.maps import Maps, Reader, StoredMaps
from maps.reading import as_they_are, divided_by_maximum, summed, summed_as_irn, unit_maximum
from orchestrator.engine.context import stored as stored_by_a_stage
from orchestrator.planning.recipes import load_all
from orchestrator.planning.references import resolve
from orchestrator.storage.shards import shard_path, write_names, write_shard

GOLDEN = dict(np.load(Path(__file__).parent / "golden" / "cam_multiscale.npz"))


def golden_maps(keys: np.ndarray) -> Maps:
    height, width = GOLDEN["size"]
    grids = tuple(GOLDEN[f"map{index}"][keys] for index in range(4))
    return Maps(keys, (int(height), int(width)), grids, read=divided_by_maximum)


def random_maps(classes: int, size: tuple[int, int], seed: int, read: Reader = divided_by_maximum) -> Maps:
    rng = np.random.default_rng(seed)
    shapes = [(3, 4), (2, 2), (5, 6)]
    grids = tuple(rng.random((classes, *shape), np.float32) * 10.0 ** rng.integers(-9, 9) for shape in shapes)
    return Maps(np.arange(classes) * 2, size, to_unit_peaks(grids), read=read)


def stored(maps: Maps) -> Maps:
    assert maps.read is not None
    return Maps.of(maps.arrays(), maps.read)


def test_summed_scales_are_the_maps_of_the_public_code():
    maps = golden_maps(GOLDEN["keys"])
    np.testing.assert_allclose(maps.strided(), GOLDEN["cam"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(maps.full(), GOLDEN["high_res"], rtol=1e-4, atol=1e-5)


def test_a_class_without_response_keeps_an_all_zero_map():
    (dead,) = np.nonzero(~np.any([GOLDEN[f"map{index}"].any(axis=(1, 2)) for index in range(4)], axis=0))
    assert not golden_maps(dead[:1]).full().any()
    dead = Maps(np.array([0]), (9, 14), to_unit_peaks([np.zeros((1, 3, 4), np.float32)]), read=divided_by_maximum)
    assert not stored(dead).full().any()


def test_maps_of_an_image_without_classes_are_empty_and_it_is_background_all_over():
    maps = stored(Maps(np.array([], np.int64), (9, 14), (), read=divided_by_maximum))
    assert maps.strided().shape == (0, 3, 4) and maps.full().shape == (0, 9, 14)
    assert torch.equal(maps.background(full=True), torch.ones(9, 14))


@given(st.integers(1, 3), st.integers(4, 40), st.integers(4, 40), st.integers(0, 999))
def test_stored_maps_come_back_up_to_half_precision_at_any_magnitude(classes, height, width, seed):
    maps = random_maps(classes, (height, width), seed)
    back = stored(maps)
    assert back.keys.tolist() == maps.keys.tolist() and back.size == maps.size
    np.testing.assert_allclose(back.full(), unit_maximum(summed_as_irn(maps, full=True), epsilon=1e-20), atol=2e-3)


def test_finished_maps_come_back_as_they_are_and_a_missing_size_is_made_of_the_other():
    small, large = np.full((1, 2, 2), 0.25, np.float16), np.random.default_rng(0).random((1, 8, 8)).astype(np.float16)
    both = stored(Maps(np.array([1]), (8, 8), (small, large), read=as_they_are))
    np.testing.assert_array_equal(both.strided(), small)
    np.testing.assert_array_equal(both.full(), large)
    one = stored(Maps(np.array([1]), (8, 8), (large,), read=as_they_are))
    np.testing.assert_array_equal(one.full(), large)
    np.testing.assert_array_equal(one.strided(), resize(torch.from_numpy(large).float(), (2, 2)))


@given(st.integers(0, 999))
def test_a_map_of_unit_maximum_does_not_depend_on_the_scale_of_its_response(seed):
    grid = torch.from_numpy(np.random.default_rng(seed).random((2, 5, 5), np.float32))
    np.testing.assert_allclose(unit_maximum(grid, 0.0), unit_maximum(grid * 8, 0.0), rtol=1e-6)


def test_a_resize_is_the_same_with_and_without_a_batch_and_nothing_at_the_same_size():
    planes = torch.rand((2, 3, 5, 7), generator=torch.Generator().manual_seed(0))
    assert torch.equal(resize(planes, (9, 4))[1], resize(planes[1], (9, 4)))
    assert resize(planes, (5, 7)) is planes
    ramp = torch.arange(4.0).expand(1, 2, 4)
    assert resize(ramp, (2, 8))[0, 0].tolist() == [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3]


@pytest.mark.parametrize("name", sorted(load_all()))
def test_a_stage_that_writes_maps_names_a_reader_that_is_there(name):
    recipe = load_all()[name]
    for stage in (*recipe.shared_stages, *recipe.stages):
        assert bool(stage.read) == (stage.writes == "maps")
        if stage.read:
            assert callable(resolve(stage.read))


def test_maps_without_a_reader_and_a_reader_of_other_shapes_are_refused_with_what_is_wrong():
    grids = (np.ones((1, 3, 4)),)
    with pytest.raises(ValueError, match="read:"):
        Maps(np.array([0]), (9, 14), grids).full()
    with pytest.raises(ValueError, match=r"summed_at_stride_4 gives \[1, 3, 4\], not 1 maps of \(9, 14\)"):
        Maps(np.array([0]), (9, 14), grids, read=summed_at_stride_4).full()
    with pytest.raises(ValueError, match="or one more for background"):
        Maps(np.array([0]), (9, 14), (np.ones((3, 3, 4)),), read=divided_by_maximum).full()


def summed_at_stride_4(maps: Maps, full: bool) -> torch.Tensor:
    return summed(maps, full=False)


# Readers of methods to come: each is this much code in the method's own file, and nothing else changes.


def of_edam(maps: Maps, full: bool) -> torch.Tensor:
    """The sum over scales divided by its maximum, without epsilon."""
    return unit_maximum(summed(maps, full), epsilon=0)


def of_mctformer(maps: Maps, full: bool) -> torch.Tensor:
    """The sum over views between its minimum and its maximum; SEAM's differs in its epsilons."""
    planes = summed(maps, full)
    low, high = planes.amin((1, 2), keepdim=True), planes.amax((1, 2), keepdim=True)
    return (planes - low) / (high - low + 1e-8)


def of_spatial_bce(maps: Maps, full: bool) -> torch.Tensor:
    """Sigmoid of the mean logit, of each pixel's best class alone, divided by the maximum."""
    probabilities = (summed(maps, full) / len(maps.grids)).sigmoid()
    return unit_maximum(torch.where(probabilities == probabilities.amax(0), probabilities, 0), epsilon=1e-8)


def of_eps(maps: Maps, full: bool) -> torch.Tensor:
    """Softmax over all labels, background last, at every scale; the image's own classes summed and divided by the maximum."""
    probabilities = [resize(logits, maps.extent(full)).softmax(0)[maps.keys] for logits in maps.tensors()]
    return unit_maximum(torch.stack(probabilities).sum(0))


def of_pmm(maps: Maps, full: bool) -> torch.Tensor:
    """Windows (top, left, height, width as shares of the image) averaged where they overlap, then minimum to maximum."""
    height, width = maps.extent(full)
    total, covered = torch.zeros((len(maps.keys), height, width)), torch.zeros((height, width))
    for grid, share in zip(maps.tensors(), maps.extras["windows"], strict=True):
        top, left, rows, columns = (round(part * side) for part, side in zip(share.tolist(), (height, width) * 2, strict=True))
        total[:, top : top + rows, left : left + columns] += resize(grid, (rows, columns))
        covered[top : top + rows, left : left + columns] += 1
    return of_mctformer(Maps(maps.keys, maps.extent(full), ((total / covered).numpy(),)), True)


def of_sipe(maps: Maps, full: bool) -> torch.Tensor:
    """All planes alike, the first of which is the background's."""
    return divided_by_maximum(maps, full)


def planes(count: int, seed: int = 0, shape: tuple[int, int] = (4, 6)) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, *shape)).astype(np.float32)


@pytest.mark.parametrize("read", [of_edam, of_mctformer, of_spatial_bce, of_eps, of_sipe])
def test_readers_of_methods_to_come_read_what_is_stored(read):
    count = {of_eps: 6, of_sipe: 3}.get(read, 2)
    maps = stored(Maps(np.array([1, 4]), (15, 23), (planes(count), planes(count, 1, (8, 12))), read=read))
    for found, size in ((maps.strided(), (4, 6)), (maps.full(), (15, 23))):
        assert found.shape == (2, *size) and found.dtype == torch.float32
        assert found.max() == pytest.approx(1, abs=2e-3)  # each of these ends in a division by the maximum
    assert (maps.background(full=True) is not None) == (read is of_sipe)


def test_minimum_and_maximum_are_0_and_1_of_every_class():
    found = Maps(np.array([1, 4]), (15, 23), (planes(2),), read=of_mctformer).full()
    torch.testing.assert_close(found.amin((1, 2)), torch.zeros(2))
    torch.testing.assert_close(found.amax((1, 2)), torch.ones(2))


def test_without_epsilon_the_maximum_is_1_exactly():
    faint = np.abs(planes(1)) * 1e-6
    assert Maps(np.array([0]), (15, 23), (faint,), read=of_edam).full().max() == 1
    assert Maps(np.array([0]), (15, 23), (faint,), read=divided_by_maximum).full().max() < 0.5
    assert not Maps(np.array([0]), (15, 23), (0 * faint,), read=of_edam).full().any()  # and no map is not a number


def test_only_the_best_class_of_a_pixel_is_left():
    found = Maps(np.array([1, 4]), (15, 23), (planes(2),), read=of_spatial_bce).full()
    assert ((found > 0).sum(0) == 1).all()


def test_a_softmax_over_all_labels_depends_on_those_the_image_does_not_show():
    grid = planes(6)
    weak, strong = grid.copy(), grid.copy()
    strong[0, :2] += 9  # a class that the image does not show wins in the upper half
    found = [Maps(np.array([1, 4]), (16, 24), (each,), read=of_eps).strided() for each in (weak, strong)]
    assert found[1][:, :2].max() < 0.01 < found[0][:, :2].max()


def test_windows_are_averaged_where_they_overlap():
    grids = tuple(np.full((1, 2, 2), level, np.float32) for level in (1.0, 3.0))
    windows = np.array([[0, 0, 1, 0.75], [0, 0.25, 1, 0.75]])  # the middle half of the columns is in both
    maps = stored(Maps(np.array([2]), (8, 16), grids, {"windows": windows}, of_pmm))
    assert maps.full()[0, 0].tolist() == [0.0] * 4 + [0.5] * 8 + [1.0] * 4
    assert maps.strided()[0, 0].tolist() == [0.0, 0.5, 0.5, 1.0]


def test_a_background_map_of_the_method_s_own_is_read_at_both_sizes():
    grid = np.abs(planes(3))
    maps = stored(Maps(np.array([1, 4]), (15, 23), (grid,), read=of_sipe))
    whole = stored(Maps(np.array([0, 1, 2]), (15, 23), (grid,), read=divided_by_maximum))
    assert torch.equal(maps.background(full=True), whole.full()[0]) and torch.equal(maps.full(), whole.full()[1:])
    assert torch.equal(maps.background(full=False), whole.strided()[0]) and torch.equal(maps.strided(), whole.strided()[1:])
    assert all(torch.equal(maps.planes(full), whole.planes(full)) for full in (True, False))


def test_maps_of_a_batch_have_the_unit_maxima_of_each_image():
    batch = torch.rand(2, 3, 4, 5) - 0.5
    assert torch.equal(unit_maximum(batch), torch.stack([unit_maximum(own) for own in batch]))
    assert unit_maximum(torch.zeros(0, 4, 5)).shape == (0, 4, 5)


def test_an_image_s_maps_are_read_once_a_size():
    calls = []
    maps = Maps(np.array([1]), (15, 23), (planes(1),), read=lambda maps, full: calls.append(full) or summed(maps, full))
    maps.full(), maps.background(True), maps.full(), maps.strided(), maps.background(False)
    assert calls == [True, False]


def test_a_stage_gets_the_maps_of_the_one_before_with_the_reader_that_its_recipe_names(tmp_path):
    records = {"a": Maps(np.array([1, 4]), (15, 23), (np.abs(planes(3)),)).arrays()}
    write_shard(shard_path(tmp_path, 0), records, made_from="")
    write_names(tmp_path, [["a"]])
    maps = stored_by_a_stage(tmp_path, "tests.test_maps:of_sipe")["a"]
    assert maps.full().shape == (2, 15, 23) and maps.background(full=True).shape == (15, 23)
    assert stored_by_a_stage(tmp_path, "")["a"]["grid0"].shape == (3, 4, 6)  # of any other word, arrays


def test_stored_maps_are_records_with_a_reader():
    records = {"a": Maps(np.array([1]), (15, 23), (planes(1),)).arrays()}
    found = StoredMaps(records, of_mctformer)
    assert list(found) == ["a"] and len(found) == 1 and found["a"].read is of_mctformer
    with pytest.raises(KeyError):
        found["b"]
