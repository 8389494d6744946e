"""RecurSeed's single-stage inference: the golden vectors of its code, and what its parts claim."""

import numpy as np
import pytest
import torch
from PIL import Image

from imagesets.item import Item
from maps.grids import resize
from maps.normalising import with_own_background
from orchestrator.planning.recipes import load_all
from refiners import crf
from segmentation import single_stage
from segmentation.inference import probabilities
from tests.golden_vectors import golden
from tests.two_colours import context

DEEPLAB = load_all()["crf"].table["deeplab"]
SETTINGS = {
    "test_scales": [1.0, 0.5],
    "mirror": True,
    "enlarging": "nearest",
    "class_minimum": 0.34,
    "background_power": 2.0,
    "crf": "none",
}


def test_masks_become_labels_as_in_recurseed_s_code():
    known = golden("rsepm_postprocess")
    classes = single_stage.found(known["pred_class"], 0.34).nonzero()[:, 0]
    assert [0, *(classes + 1).tolist()] == known["keys"].tolist()
    seeds = single_stage.seeds(known["pred_mask"], classes)
    torch.testing.assert_close(seeds, known["seed"], atol=1e-6, rtol=0)
    rgb, own = known["image"].numpy(), crf.Parameters(**DEEPLAB)
    marginals = crf.soft(rgb, with_own_background(seeds, 2.0).numpy(), own)
    np.testing.assert_allclose(marginals, known["crf"], atol=1e-4)
    label = single_stage.label_map(rgb, seeds.numpy(), classes.numpy(), 2.0, own)
    assert (label != known["label"].numpy()).mean() <= 0.001 and label.dtype == np.uint8


@pytest.mark.parametrize("parameters", [None, crf.Parameters(**DEEPLAB)])
def test_without_a_class_the_image_is_background(parameters):
    none = np.zeros((0, 6, 8), np.float32), np.zeros(0, np.int64)
    assert not single_stage.label_map(np.zeros((6, 8, 3), np.uint8), *none, 2.0, parameters).any()


def test_a_score_that_equals_the_minimum_is_kept_in_the_precision_of_the_scores():
    scores = torch.tensor([0.34, 0.33, 0.99])
    assert single_stage.found(scores, 0.34).tolist() == [True, False, True]


def test_background_is_what_the_highest_map_lacks_to_one():
    found = with_own_background(torch.tensor([[[0.25, 1.0]], [[0.5, 0.2]]]), 2.0)
    np.testing.assert_allclose(found[0], [[0.25, 0.0]])


def test_a_map_that_resizing_rounds_above_one_leaves_no_background():
    assert with_own_background(torch.full((1, 2, 2), 1.0000001), 1.5)[0].eq(0).all()


class Colours(torch.nn.Module):
    """A network that finds class 0 where an image is red and class 1 where it is blue, and is sure of `likely` classes."""

    def __init__(self, likely: tuple[float, float]) -> None:
        super().__init__()
        self.likely, self.seen = torch.tensor(likely), []

    def both(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, tuple]:
        self.seen.append(tuple(images.shape))
        small = resize(images, [side // 4 for side in images.shape[-2:]])
        decoded = torch.stack([torch.ones_like(small[:, 0]), small[:, 0] * 2, small[:, 2] * 2], dim=1)
        return self.likely.logit()[None, :, None, None].expand(len(images), 2, *small.shape[-2:]), decoded, ()


def test_probabilities_are_means_over_views():
    network, images = Colours((0.9, 0.2)), torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(0))

    def decode(views: torch.Tensor) -> torch.Tensor:
        return network.both(views)[1]

    masks, scores = single_stage.both_probabilities(network, images, [1.0, 0.5], True, "bilinear")
    torch.testing.assert_close(masks, probabilities(decode, images, [1.0, 0.5], True, "mean_view_softmax"))
    torch.testing.assert_close(scores, torch.tensor([[0.9, 0.2]]).expand(2, 2))
    nearest = single_stage.both_probabilities(network, images, [1.0], False, "nearest")[0]
    cells = decode(images).repeat_interleave(4, 2).repeat_interleave(4, 3)
    torch.testing.assert_close(nearest, cells.softmax(1))


def halves(tmp_path) -> Item:
    rgb = np.zeros((32, 48, 3), np.uint8)
    rgb[:, :16, 0] = rgb[:, 32:, 2] = 255
    Image.fromarray(rgb).save(tmp_path / "image.png")
    return Item("image", tmp_path / "image.png", (0,))


def test_the_classifier_decides_which_classes_may_occur_and_both_heads_see_every_view(tmp_path):
    item, network = halves(tmp_path), Colours((0.9, 0.9))
    label = single_stage.predictions(context(SETTINGS, [item], network=network))(item)["label"]
    assert (label[:, :12] == 1).all() and (label[:, 36:] == 2).all() and not label[:, 20:28].any()
    assert network.seen == [(2, 3, 32, 48), (2, 3, 16, 24)]
    label = single_stage.predictions(context(SETTINGS, [item], network=Colours((0.1, 0.9))))(item)["label"]
    assert set(np.unique(label)) == {0, 2}  # the image's own label, class 0, plays no part


def test_the_stage_uses_the_crf_that_it_is_given(tmp_path):
    item = halves(tmp_path)
    where = context(SETTINGS | {"crf": DEEPLAB}, [item], network=Colours((0.9, 0.9)))
    label = single_stage.predictions(where)(item)["label"]
    assert (label[:, :15] == 1).all() and (label[:, 33:] == 2).all() and not label[:, 18:30].any()
