"""SCG: the golden vectors of two public codes and of the printed equations, and what holds whatever the features."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.scg import example, plain
from maps.maps import Maps
from maps.reading import as_they_are
from refiners import scg
from tests.golden_vectors import golden
from tests.two_colours import context, write_items

SETS = {
    "p1": scg.Parameters(),
    "p2": scg.Parameters(first_threshold=0, second_threshold=0),
    "p3": scg.Parameters(0.2, 0.2, 0.1, 0.05, iterations=2, second_weight=2),
}
SPA = scg.Parameters(0.2, 0.2, 0.1, 0.05, form="spa")
MATRIX, MAP = {"atol": 1e-6, "rtol": 0}, {"atol": 1e-4, "rtol": 0}


def drawn(seed: int, *shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def peaks_of_one(maps: torch.Tensor) -> torch.Tensor:
    return maps / maps.amax(dim=(-2, -1), keepdim=True)


def first_order(vectors: torch.Tensor, parameters: scg.Parameters, epsilon: float = scg.EPSILON) -> torch.Tensor:
    """S1 [N,N] of vectors [C,N]."""
    return scg._by_columns(scg._similar(vectors, parameters), epsilon)


def second_order(vectors: torch.Tensor, parameters: scg.Parameters, epsilon: float = scg.EPSILON) -> torch.Tensor:
    """S2 [N,N] of vectors [C,N]."""
    return scg._second(scg._similar(vectors, parameters), parameters, epsilon)


@pytest.mark.parametrize("name", SETS)
def test_matrices_and_maps_are_those_of_recurseed_s_code(name):
    known, own = golden("scg_authors"), SETS[name]
    layers = [known[f"feat{number}"] for number in (1, 2, 3)]
    for number, layer in enumerate(layers, start=1):
        vectors = layer[0].flatten(1)
        if f"{name}_SC1_feat{number}" in known:
            torch.testing.assert_close(first_order(vectors, own), known[f"{name}_SC1_feat{number}"], **MATRIX)
            torch.testing.assert_close(second_order(vectors, own), known[f"{name}_SC2_feat{number}"], **MATRIX)
    total = sum(scg.correlation(layer[0].flatten(1), own) for layer in layers)
    torch.testing.assert_close(total, known[f"{name}_HSC"], **MATRIX)
    torch.testing.assert_close(scg.spread(layers, known["cam"], own), known[f"{name}_M"], **MAP)


def test_matrices_and_maps_are_those_of_spa_s_code():
    known = golden("scg_spa")
    for name in "ab":
        vectors = known[f"feat_{name}"][0].flatten(1)
        torch.testing.assert_close(first_order(vectors, SPA, scg.SPA_EPSILON), known[f"fo_{name}"], **MATRIX)
        torch.testing.assert_close(second_order(vectors, SPA, scg.SPA_EPSILON), known[f"so_{name}"], **MATRIX)
    total = sum(scg.spa_correlation(known[f"feat_{name}"][0].flatten(1), SPA) for name in "ab")
    torch.testing.assert_close(total, known["hsc_sum"], **MATRIX)
    found = scg.spread([known["feat_a"], known["feat_b"]], known["cam"][None], SPA)[0]
    torch.testing.assert_close(found, known["scm"], **MAP)


def test_the_printed_equations_are_those_of_independent_loops():
    known, own = golden("scg_paper_equations"), scg.Parameters(form="equations")
    layers = [known["feat1"], known["feat2"]]
    total = sum(scg.printed_correlation(layer.flatten(1), own) for layer in layers) / 2
    torch.testing.assert_close(total.T, known["HSC"], atol=1e-5, rtol=0)
    found = scg.spread([layer[None] for layer in layers], known["cam"][None], own)[0]
    torch.testing.assert_close(found, known["M"], atol=1e-5, rtol=0)


def test_it_is_the_plain_form_with_all_matrices_at_once():
    layers, cams = example(3)
    few = [layer[..., ::2, ::2] for layer in layers[:3]]
    torch.testing.assert_close(scg.spread(few, cams[..., ::2, ::2]), plain(few, cams[..., ::2, ::2]), **MAP)


def test_where_all_features_are_one_vector_seeds_spread_nowhere():
    features, cams = drawn(0, 1, 8, 1, 1).expand(1, 8, 7, 9), peaks_of_one(drawn(1, 1, 2, 7, 9))
    found = scg.spread([features], cams)
    torch.testing.assert_close(found, (cams >= 0.3).float(), atol=1e-4, rtol=0)
    assert scg.spread([features], cams, scg.Parameters(form="equations")).max() < 1e-6


@settings(max_examples=10)
@given(st.integers(0, 10_000), st.sampled_from(list(scg.FORMS)))
def test_no_position_is_preferred_for_its_place(seed, form):
    features, cams, own = drawn(seed, 1, 6, 5, 6), peaks_of_one(drawn(seed + 1, 1, 3, 5, 6)), scg.Parameters(form=form)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(seed))
    mixed = [planes.flatten(2)[..., order].unflatten(2, (5, 6)) for planes in (features, cams)]
    found = scg.spread(mixed[:1], mixed[1], own)
    torch.testing.assert_close(found, scg.spread([features], cams, own).flatten(2)[..., order].unflatten(2, (5, 6)), **MAP)


@settings(max_examples=10)
@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(1, 4))
def test_classes_and_images_do_not_touch_one_another(seed, images, classes):
    layers, cams = [drawn(seed, images, 5, 4, 6), drawn(seed + 1, images, 9, 2, 3)], drawn(seed + 2, images, classes, 4, 6)
    together = scg.spread(layers, peaks_of_one(cams))
    assert together.min() >= 0 and together.max() <= 1
    for image in range(images):
        for own in range(classes):
            part = [layer[image : image + 1] for layer in layers], peaks_of_one(cams)[image : image + 1, own : own + 1]
            torch.testing.assert_close(together[image, own], scg.spread(*part)[0, 0], **MAP)


def test_a_map_without_seeds_stays_empty_and_no_map_at_all_is_fine():
    features, cams = drawn(0, 1, 5, 4, 6), torch.stack([torch.zeros(4, 6), torch.full((4, 6), 0.2)])[None]
    found = scg.spread([features], cams)
    assert not found[0].any()  # of the first all positions are background; the second has neither
    assert scg.spread([features], torch.zeros(1, 0, 4, 6)).shape == (1, 0, 4, 6)


def test_positions_without_any_feature_give_numbers():
    features = torch.zeros(1, 5, 4, 6)
    features[..., 3:] = drawn(0, 1, 5, 4, 3)
    for form in scg.FORMS:
        found = scg.spread([features], peaks_of_one(drawn(1, 1, 2, 4, 6)), scg.Parameters(form=form))
        assert found.isfinite().all()


def test_layers_are_brought_to_the_grid_of_the_maps():
    fine, cams = drawn(0, 1, 5, 8, 12), peaks_of_one(drawn(1, 1, 2, 4, 6))
    coarse = torch.nn.functional.interpolate(fine, size=(4, 6), mode="bilinear", align_corners=False)
    assert torch.equal(scg.spread([fine], cams), scg.spread([coarse], cams))


def test_the_stage_spreads_a_seed_over_its_object(tmp_path):
    """Taps are the colours of the image at strides 4 and 8, so all positions of a square are alike."""
    (item, empty) = write_items(tmp_path, [(0,), ()])
    rgb = item.rgb().astype(int)
    inside = (rgb[..., 0] > 200) & (rgb[..., 1] < 100)
    peak = np.zeros((1, 48, 64), np.float32)
    rows, columns = np.nonzero(inside)
    peak[0, rows[0] : rows[0] + 8, columns[0] : columns[0] + 8] = 1
    records = {"image0": Maps(np.array([0]), (48, 64), (peak,), read=as_they_are)}

    def taps(images: torch.Tensor) -> list[torch.Tensor]:
        return [torch.nn.functional.avg_pool2d(images + 3, stride) ** 4 for stride in (4, 8)]

    settings = {"layers": [2, 1], "stride": 4, "scales": [1.0, 2.0], **vars(scg.Parameters(first_threshold=0.9))}
    where = context(settings, [item], network=SimpleNamespace(backbone=taps), maps=records)
    found = Maps.of(scg.maps(where)(item), as_they_are)
    assert found.keys.tolist() == [0] and found.grids[0].shape == (1, 12, 16)
    spread = (found.full()[0] > 0.5).numpy()
    assert (inside & spread).sum() / (inside | spread).sum() > 0.7  # cells of 4 pixels reach beyond the rim
    assert peak[0][inside].mean() < 0.3
    assert Maps.of(scg.maps(where)(empty), as_they_are).full().shape == (0, 48, 64)


def test_mirror_images_are_turned_back_before_they_are_added():
    views = torch.stack([drawn(0, 1, 3, 8, 12), drawn(0, 1, 3, 8, 12).flip(-1)], dim=1)
    (found,) = scg.summed_layers(lambda images: [images], iter([views]), [1], (8, 12))
    torch.testing.assert_close(found, 2 * drawn(0, 1, 3, 8, 12))
