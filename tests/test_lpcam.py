from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cosine_similarity

from clustering.kmeans import initial_rows, lloyd
from imagesets.transforms import normalise
from maps.extraction import to_unit_peaks
from maps.maps import Maps
from maps.reading import divided_by_maximum, summed_as_irn, unit_maximum
from methods import cam, lpcam
from tests.golden_vectors import golden
from tests.two_colours import CLASSES, SHARED, context, write_items
from training.stage import Settings

PROTOTYPES = {
    "clusters": 4,
    "tolerance": 1e-4,
    "max_iterations": 50,
    "images_per_class": 0,
    "chunk_rows": 16,
    "threshold": 0.1,
    "prototype_probability": 0.9,
    "context_minimum": 0.05,
    "context_maximum": 0.9,
    "contexts": True,
}


def classifier(weights: torch.Tensor) -> cam.Classifier:
    found = cam.Classifier(SimpleNamespace(channels=weights.shape[1:]), len(weights))
    found.classifier.weight = torch.nn.Parameter(weights[:, :, None, None], requires_grad=False)
    return found


def rows(seed: int, count: int, channels: int = 6) -> torch.Tensor:
    return torch.rand((count, channels), generator=torch.Generator().manual_seed(seed))


def normalised(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def pair(seed: int) -> torch.Tensor:
    return torch.rand((2, 6, 4, 5), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("images", ["voc", "coco"])
def test_selection_keeps_the_golden_centres(images):
    data = golden("lpcam_select")
    weights = data["W20" if images == "voc" else "W80"]
    bounds = (0.05, 0.9) if images == "voc" else (0.0, 0.5)
    for index in range(3):
        foreground, background = data[f"{images}_fg_{index}"], data[f"{images}_bg_{index}"]
        inside, outside = (classifier(weights).probability(found, index) for found in (foreground, background))
        torch.testing.assert_close(inside, data[f"{images}_pf_{index}"], rtol=1e-4, atol=1e-7)
        torch.testing.assert_close(outside, data[f"{images}_pb_{index}"], rtol=1e-4, atol=1e-7)
        kept = data[f"{images}_keep_fg_{index}"].bool()
        if not kept.any():  # VOC code stops with an error here; we take COCO's rule
            kept = inside > inside.max() - 1e-6
        assert torch.equal(lpcam.class_prototypes(foreground, inside, 0.9), foreground[kept])
        contexts = lpcam.context_prototypes(background, outside, *bounds)
        assert torch.equal(contexts, background[data[f"{images}_keep_bg_{index}"].bool()])


def test_maps_are_the_golden_ones_with_and_without_contexts():
    data = golden("lpcam_map")
    directions = torch.stack([lpcam.direction(data[f"proto_{key}"], data[f"context_{key}"]) for key in data["keys"].tolist()])
    grids = tuple(lpcam.class_maps(data[f"feat{scale}"], directions).numpy() for scale in range(4))
    maps = Maps(data["keys"].numpy(), tuple(data["size"].tolist()), grids)
    for full, expected in ((False, data["cam"]), (True, data["high_res"])):
        published = unit_maximum(summed_as_irn(maps, full), epsilon=0)
        torch.testing.assert_close(published, expected, rtol=1e-4, atol=1e-5)
    # what is read back from the store adds an epsilon to a maximum of about 1 or more, and half precision
    stored = Maps.of(replace(maps, grids=to_unit_peaks(grids)).arrays(), divided_by_maximum)
    torch.testing.assert_close(stored.strided(), data["cam"], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(stored.full(), data["high_res"], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("index", [0, 1, 2])
def test_prototypes_from_features_and_masks_are_the_golden_ones(index):
    data = golden("lpcam_cluster_full")
    having = [image for image in range(len(data["label"])) if data["label"][image, index]]
    masks = [data[f"mask{image}_u8"][data[f"keys{image}"] == index][0] / 100 for image in having]
    sets = zip(
        *(lpcam.split(data[f"feat{image}"], mask, 0.1)[:2] for image, mask in zip(having, masks, strict=True)), strict=True
    )
    centres = {}
    for name, parts in zip(("fg", "bg"), sets, strict=True):
        vectors = torch.cat(parts)
        assert len(vectors) == data[f"{name}{index}_n"]
        torch.testing.assert_close(vectors.sum(0), data[f"{name}{index}_sum"], rtol=1e-4, atol=1e-4)
        first = vectors[data[f"{name}{index}_init"]]
        centres[name], iterations = lloyd(partial(vectors.split, 10), first, tolerance=5, max_iterations=100)
        assert iterations == data[f"{name}{index}_iters"]
        torch.testing.assert_close(centres[name], data[f"{name}{index}_centers"], rtol=1e-4, atol=1e-6)
    inside, outside = (classifier(data["W"]).probability(found, index) for found in centres.values())
    kept = lpcam.class_prototypes(centres["fg"], inside, 0.6)
    torch.testing.assert_close(kept, data[f"proto{index}"], rtol=1e-4, atol=1e-6)
    contexts = lpcam.context_prototypes(centres["bg"], outside, 0.05, 0.9)
    torch.testing.assert_close(contexts, data[f"context{index}"], rtol=1e-4, atol=1e-6)


def test_a_mask_value_equal_to_the_threshold_belongs_to_neither_set():
    features = torch.arange(8.0).reshape(2, 2, 2)
    inside, outside, positions = lpcam.split(features, torch.tensor([[0.5, 0.25], [0.0, 0.5]]), 0.25)
    assert inside.tolist() == [[0, 4], [3, 7]] and outside.tolist() == [[2, 6]]
    assert positions.tolist() == [0, 3]


@settings(max_examples=30)
@given(st.integers(0, 10_000))
def test_one_prototype_and_no_context_gives_the_rectified_cosine_map(seed):
    features, weights = pair(seed), torch.randn((1, 6), generator=torch.Generator().manual_seed(seed))
    found = lpcam.class_maps(features, lpcam.direction(weights, weights[:0])[None])[0]
    both = features[0] + features[1].flip(-1)
    torch.testing.assert_close(found, cosine_similarity(both, weights[0][:, None, None], dim=0).relu())


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(1, 5))
def test_the_one_product_equals_the_mean_over_every_single_cosine(seed, count, others):
    features, prototypes, contexts = pair(seed), rows(seed + 1, count), rows(seed + 2, others)
    both = features[0] + features[1].flip(-1)

    def mean_cosine(found: torch.Tensor) -> torch.Tensor:
        return torch.stack([cosine_similarity(both, one[:, None, None], dim=0) for one in found]).mean(0)

    expected = (mean_cosine(prototypes) - mean_cosine(contexts)).relu()
    torch.testing.assert_close(lpcam.class_maps(features, lpcam.direction(prototypes, contexts)[None])[0], expected)


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.floats(0.1, 50), st.floats(0.1, 50))
def test_lengths_of_features_and_prototypes_do_not_matter(seed, features_by, prototypes_by):
    features, prototypes = pair(seed), rows(seed + 1, 3)
    plain = lpcam.class_maps(features, lpcam.direction(prototypes, prototypes[:0])[None])
    scaled = lpcam.class_maps(features * features_by, lpcam.direction(prototypes * prototypes_by, prototypes[:0])[None])
    torch.testing.assert_close(scaled, plain)


def test_prototypes_that_are_also_contexts_and_all_zero_features_give_a_zero_map():
    same = rows(0, 4)
    assert lpcam.class_maps(pair(0), lpcam.direction(same, same)[None]).abs().max() < 1e-6
    assert (lpcam.class_maps(torch.zeros(2, 6, 4, 5), lpcam.direction(same, same[:0])[None]) == 0).all()


def test_centres_that_are_as_probable_as_the_best_are_kept_with_it():
    probabilities = torch.tensor([0.5, 0.4, 0.5 - 4e-7])
    assert torch.equal(lpcam.class_prototypes(rows(0, 3), probabilities, 0.9), rows(0, 3)[[0, 2]])


def test_a_class_without_any_prototype_has_a_zero_map():
    assert lpcam.class_prototypes(torch.empty(0, 6), torch.empty(0), 0.9).shape == (0, 6)
    direction = lpcam.direction(torch.empty(0, 6), rows(0, 2))
    assert (lpcam.class_maps(pair(0), direction[None]) == 0).all()


class Colours(cam.Classifier):
    """A network with three features, the red, blue and grey of each 16x16 cell, whose weights tell red from blue."""

    def __init__(self) -> None:
        super().__init__(SimpleNamespace(channels=(3,)), 2)
        weights = torch.tensor([[9.0, -9.0, 0.0], [-9.0, 9.0, 0.0]])
        self.classifier.weight = torch.nn.Parameter(weights[:, :, None, None], requires_grad=False)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        red, blue = (images[:, 0] - images[:, 2]).relu(), (images[:, 2] - images[:, 0]).relu()
        grey = (1 - red - blue).relu()
        return torch.nn.functional.avg_pool2d(torch.stack([red, blue, grey], 1), 16, ceil_mode=True)


@pytest.fixture
def fitted(tmp_path):
    """Items, their colour maps, and a function that fits prototypes of both classes under some settings."""
    items = write_items(tmp_path, [(0,), (1,), (0, 1), (0, 1), ()])
    network = Colours()
    one = cam.maps(context({"scales": [1.0]}, items, network=network))
    maps = {item.id: Maps.of(one(item), divided_by_maximum) for item in items}

    def fit(**changed: object) -> dict[str, dict[str, np.ndarray]]:
        of_class = lpcam.prototypes(context(PROTOTYPES | changed, items, network=network, maps=maps))
        return {name: of_class(index) for index, name in enumerate(CLASSES)}

    return SimpleNamespace(items=items, network=network, maps=maps, fit=fit)


def test_prototypes_of_each_colour_point_along_it_and_maps_lie_on_it(fitted):
    found = fitted.fit()
    for index, name in enumerate(CLASSES):
        assert (found[name]["prototypes"][:, index] > found[name]["prototypes"][:, 1 - index]).all()
    inputs = {"network": fitted.network, "fitted": found}
    one = lpcam.maps(context({"scales": [1.0, 2.0]}, fitted.items, **inputs))
    maps = Maps.of(one(fitted.items[2]), divided_by_maximum)
    columns = maps.full().sum(dim=1).argmax(dim=1)  # red is drawn left, blue right
    assert columns[0] < 32 < columns[1]
    assert Maps.of(one(fitted.items[4]), divided_by_maximum).full().shape == (0, 48, 64)


def test_prototypes_of_a_class_come_from_that_class_s_own_map(fitted):
    values = PROTOTYPES | {"threshold": 0.4}  # so high that a map is above it on its own square alone
    where = context(values, fitted.items[2:3], network=fitted.network, maps=fitted.maps)
    for index in range(2):
        found = lpcam.prototypes(where)(index)["prototypes"]
        assert len(found) and (found[:, index] > found[:, 1 - index]).all()


def test_the_regions_that_match_a_prototype_lie_on_the_colour_it_stands_for(fitted):
    found = fitted.fit()
    for name, left in {"red": True, "blue": False}.items():
        images, places = found[name]["images"], found[name]["places"]
        assert images.shape == places.shape[:2] == (len(found[name]["prototypes"]), 3) and places.shape[2] == 2
        shows = {item.id for item in fitted.items if CLASSES.index(name) in item.labels}
        assert all(set(row) == shows for row in images)  # three images show each colour
        purest = np.argmax(normalised(found[name]["prototypes"])[:, CLASSES.index(name)])  # others are half grey
        assert ((places[purest, :, 1] < 0.5) == left).all()  # red is drawn in the left half and blue in the right


def test_prototypes_depend_on_nothing_but_the_random_seed_and_not_on_chunks(fitted):
    first, again, chunked = fitted.fit(), fitted.fit(), fitted.fit(chunk_rows=3)
    for name in CLASSES:
        for kind in ("prototypes", "contexts"):
            assert np.array_equal(first[name][kind], again[name][kind])
            np.testing.assert_allclose(chunked[name][kind], first[name][kind], rtol=1e-5, atol=1e-6)


def test_without_contexts_none_are_fitted_and_prototypes_stay(fitted):
    plain, ablated = (fitted.fit(context_minimum=0.0, contexts=contexts) for contexts in (True, False))
    assert len(plain["red"]["contexts"]) > 0 and ablated["red"]["contexts"].shape == (0, 3)
    assert np.array_equal(plain["red"]["prototypes"], ablated["red"]["prototypes"])


def test_the_probability_of_a_centre_decides_whether_it_is_a_prototype(fitted):
    counts = [len(fitted.fit(prototype_probability=least)["red"]["prototypes"]) for least in (0.0, 1.0)]
    assert counts == [PROTOTYPES["clusters"], 1]  # all centres; none is sure, so the most probable one stays


def test_drawing_as_many_images_as_there_are_takes_them_all(fitted):
    assert np.array_equal(fitted.fit()["red"]["prototypes"], fitted.fit(images_per_class=3)["red"]["prototypes"])
    assert fitted.fit(images_per_class=1)["red"]["prototypes"].shape[1] == 3


def test_the_random_seed_draws_the_images(fitted):
    where = context(PROTOTYPES | {"images_per_class": 1}, fitted.items, network=fitted.network, maps=fitted.maps)
    drawn = {str(lpcam.prototypes(replace(where, purpose=(seed,)))(0)["images"][0, 0]) for seed in range(12)}
    assert drawn == {item.id for item in fitted.items if 0 in item.labels}


def test_each_k_means_starts_from_rows_of_its_own(fitted, monkeypatch):
    drawn = []

    def noted(total: int, clusters: int, rng: np.random.Generator) -> np.ndarray:
        drawn.append(rng.bit_generator.state["state"]["state"])
        return initial_rows(total, clusters, rng)

    monkeypatch.setattr(lpcam, "initial_rows", noted)
    fitted.fit()
    assert len(drawn) == len(set(drawn)) == 4  # foreground and background of two classes


def test_the_images_of_a_prototype_come_in_the_order_of_their_best_match(fitted):
    found = fitted.fit()["red"]
    best = {}
    for item in (item for item in fitted.items if 0 in item.labels):
        features = fitted.network.features(torch.from_numpy(normalise(item.rgb()))[None])[0]
        red = fitted.maps[item.id].full()[list(item.labels).index(0)]
        vectors = lpcam.split(features, red, PROTOTYPES["threshold"])[0]
        best[item.id] = lpcam.best_match(torch.from_numpy(found["prototypes"]), vectors)[0].numpy()
    for number, images in enumerate(found["images"]):
        closeness = [best[image][number] for image in images]
        assert closeness == sorted(closeness, reverse=True) and closeness[0] > closeness[-1]


def test_a_class_that_no_image_shows_has_no_prototypes_and_an_image_without_foreground_matches_none(fitted):
    only_red = context(PROTOTYPES, fitted.items[:1], network=fitted.network, maps=fitted.maps)
    assert lpcam.prototypes(only_red)(1)["prototypes"].shape == (0, 3)
    first, *others = (item.id for item in fitted.items if 0 in item.labels)
    fitted.maps[first] = Maps(np.array([0]), (48, 64), (np.zeros((1, 12, 16), np.float32),), read=divided_by_maximum)
    assert all(set(images) == set(others) for images in fitted.fit()["red"]["images"])


def test_both_stages_work_on_the_trained_classifier_s_own_interface(tmp_path):
    items = write_items(tmp_path, [(0,), (0, 1)])
    torch.manual_seed(0)
    network = cam.network(Settings(SHARED), CLASSES).eval().requires_grad_(False)
    one = cam.maps(context({"scales": [1.0]}, items, network=network))
    maps = {item.id: Maps.of(one(item), divided_by_maximum) for item in items}
    of_class = lpcam.prototypes(context(PROTOTYPES, items, network=network, maps=maps))
    found = {name: of_class(index) for index, name in enumerate(CLASSES)}
    record = lpcam.maps(context({"scales": [1.0]}, items, network=network, fitted=found))(items[1])
    assert Maps.of(record, divided_by_maximum).strided().shape == (2, 12, 16)


def test_classes_without_prototypes_are_named_in_one_sentence():
    records = {
        name: {"prototypes": np.zeros((found, 4), np.float32)} for name, found in (("cat", 0), ("dog", 3), ("sea lion", 0))
    }
    (told,) = lpcam.without_prototypes(records)
    assert "2 of 3 classes" in told and "cat, sea lion" in told and "dog" not in told
    assert lpcam.without_prototypes({"dog": records["dog"]}) == []
