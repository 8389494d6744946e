"""LPCAM: maps from similarity to local prototypes, which cover more of an object than the classifier's weights do.

Chen and Sun, Extracting Class Activation Maps from Non-Discriminative Features as well, CVPR 2023. Nothing is trained.
With `on=amn` the network is AMN: its features are clustered, its head scores the centres, and the maps are AMN's.
`prototypes`, per class: collect the trained classifier's features at scale 1 where the stored CAM is above tau and where
it is below (Eq. 2), and cluster each set. Foreground centres that the classifier recognises as the class (probability above
mu_f) are the class prototypes F; background centres that it hardly recognises (below mu_b) are the context prototypes B.
`maps`, per image: mean cosine to F minus mean cosine to B, rectified (Eq. 6), summed over scales.

Where the public code and the text differ, we follow the code, because the published figures come from it:
* a mask value equal to tau belongs to neither set (text: to the foreground); masks are the stored multi-scale CAM, sampled
  at floor indices (text: a single-scale CAM);
* context prototypes also have a lower bound, 0.05 on VOC (text: none);
* features of image and mirror are added before any similarity (the text does not say).
Unlike the code:
* the VOC code ends in an error for a class without class prototypes; we keep its most probable centre, as the COCO code does.
  A class without any foreground vector has no prototype and all-zero maps;
* the code rectifies only where there are context prototypes; we always rectify, which is the same on its non-negative features;
* we add CAM's epsilon to the maximum before the division (code: none, so an all-zero map becomes NaN). Before that,
  `to_unit_peaks` scales each class to a peak of about 1: a difference of cosines may be as small as 0.02, and the epsilon would
  change it;
* the COCO code draws 100 images of a class with replacement; `images_per_class` draws without, and takes all if there are fewer;
* k-means: see `clustering.kmeans`.
"""

from collections.abc import Callable, Mapping
from tempfile import TemporaryFile

import numpy as np
import torch
from torch.nn import functional

from clustering.kmeans import initial_rows, lloyd
from clustering.vector_file import VectorFile
from imagesets.errors import named
from imagesets.item import Item
from imagesets.views import images, load
from maps.extraction import per_image
from training.stage import Context, PerImage, Records

MATCHES = 3  # regions that are kept per prototype and shown in reports
TIE = 1e-6  # centres whose probabilities differ by less are equally probable
NORM_FLOOR = 1e-8  # in a cosine's denominator: the similarity to an all-zero vector is 0


def split(features: torch.Tensor, mask: torch.Tensor, threshold: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Feature vectors inside and outside of a class's map (Eq. 2), row by row.

    `features` [C,h,w]; `mask` [H,W], the map at image size in 0..1; tau = `threshold`. A value equal to tau is on neither
    side. Returns foreground [n,C], background [m,C] and the foreground's positions [n] in 0..h*w-1.
    """
    vectors = features.flatten(1).T
    values = functional.interpolate(mask[None, None], size=features.shape[1:], mode="nearest").flatten()
    inside = (values > threshold).nonzero()[:, 0]
    return vectors[inside], vectors[values < threshold], inside


def class_prototypes(centres: torch.Tensor, probabilities: torch.Tensor, minimum: float) -> torch.Tensor:
    """Foreground centres [N,C] whose probability [N] of the class exceeds mu_f = `minimum`, else the most probable."""
    kept = probabilities > minimum
    if len(centres) and not kept.any():
        kept = probabilities > probabilities.max() - TIE
    return centres[kept]


def context_prototypes(centres: torch.Tensor, probabilities: torch.Tensor, minimum: float, maximum: float) -> torch.Tensor:
    """Background centres [N,C] whose probability [N] of the class lies between `minimum` and mu_b = `maximum`; may be none."""
    return centres[(probabilities > minimum) & (probabilities < maximum)]


def direction(prototypes: torch.Tensor, contexts: torch.Tensor) -> torch.Tensor:
    """The vector [C] whose product with a normalised feature is the mean cosine to F [P,C] minus the mean cosine to B [Q,C].

    A mean of cosines is linear in the normalised prototypes, so the prototypes are averaged once instead of at every position.
    The mean over an empty set is 0.
    """
    means = [functional.normalize(found, dim=1).sum(dim=0) / max(len(found), 1) for found in (prototypes, contexts)]
    return means[0] - means[1]


def class_maps(features: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
    """Rectified similarity maps of an image (Eq. 6, before normalisation).

    `features` [2,C,h,w] are of the image and of its mirror, `directions` [n,C] of n classes; returns [n,h,w].
    """
    # in place, not by torch's norm over the first axis: at 2048 channels new memory costs more than the arithmetic
    both = features[1].flip(-1).add_(features[0])
    similarity = torch.einsum("nc,chw->nhw", directions, both)
    lengths = both.square_().sum(dim=0).sqrt_()
    return (similarity / lengths.clamp_(min=NORM_FLOOR)).relu_()


def best_match(prototypes: torch.Tensor, vectors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The highest cosine [P] of each of the `prototypes` [P,C] to one of the `vectors` [n,C], and that vector's index [P]."""
    cosines = functional.normalize(vectors, dim=1) @ functional.normalize(prototypes, dim=1).T
    best = cosines.max(dim=0)
    return best.values, best.indices


def prototypes(context: Context) -> Callable[[int], dict[str, np.ndarray]]:
    """Class prototypes [P,C] and context prototypes [Q,C] of one class, from the images of the list that show it.

    The result also holds the image regions that each class prototype matches best, for reports: `images` [P,M], ids, and
    `places` [P,M,2], (row, column) as fractions of height and width.
    """
    settings, network = context.settings, context.inputs["network"]

    def probability(centres: torch.Tensor, class_index: int) -> torch.Tensor:
        return network.probability(centres.to(context.device), class_index).cpu()

    @torch.no_grad()
    def one(class_index: int) -> dict[str, np.ndarray]:
        name, channels = context.classes[class_index], network.backbone.channels[-1]
        # unnamed files: the system frees them when the process ends, even when it is killed
        with TemporaryFile() as first, TemporaryFile() as second:
            inside, outside = (VectorFile(file, channels, settings.chunk_rows) for file in (first, second))
            origins = _collect(context, class_index, inside, outside)
            foreground, background = _cluster(context, inside, name, "foreground"), _cluster(context, outside, name, "background")
            kept = class_prototypes(foreground, probability(foreground, class_index), settings.prototype_probability)
            matches = _matches(kept, inside, origins)
        bounds = settings.context_minimum, settings.context_maximum
        contexts = context_prototypes(background, probability(background, class_index), *bounds)
        return {"prototypes": kept.numpy(), "contexts": contexts.numpy(), **matches}

    return one


def regions(record: Mapping[str, np.ndarray]) -> list[list[tuple[str, np.ndarray]]]:
    """The regions of a class's record that a report shows: per prototype the images that match it best, each with its place."""
    pairs = zip(record["images"], record["places"], strict=True)
    return [[(str(id), place) for id, place in zip(ids, places, strict=True)] for ids, places in pairs]


def maps(context: Context) -> PerImage:
    """The maps of one image's own classes from the fitted prototypes, summed over scales."""
    fitted = (context.inputs["fitted"][name] for name in context.classes)
    pairs = [(torch.from_numpy(found["prototypes"]), torch.from_numpy(found["contexts"])) for found in fitted]
    directions = torch.stack([direction(*pair) for pair in pairs]).to(context.device)
    return per_image(context, lambda features, keys: class_maps(features, directions[keys]))


def without_prototypes(records: Records) -> list[str]:
    """A sentence on the classes that have no class prototype, if there are any: their maps are zero everywhere."""
    names = [name for name in records if not len(records[name]["prototypes"])]
    if not names:
        return []
    return [
        f"{len(names)} of {len(records)} classes have no prototype and will have empty maps: {named(names)}. No image of the "
        "list that LPCAM fits on (images.fitting) has a foreground vector of them"
    ]


Origins = list[tuple[str, tuple[int, int], np.ndarray]]  # image id, its feature grid (h,w), positions of the kept vectors


def _collect(context: Context, class_index: int, inside: VectorFile, outside: VectorFile) -> Origins:
    """Write a class's foreground and background vectors, image by image; return the places of the foreground vectors."""
    settings, origins = context.settings, []
    for item in _images(context, class_index):
        features, mask = _features(context, item), _mask(context, item, class_index)
        foreground, background, positions = split(features, mask, settings.threshold)
        inside.append(foreground)
        if settings.contexts:
            outside.append(background)
        origins.append((item.id, (features.shape[1], features.shape[2]), positions.numpy()))
    return origins


def _matches(prototypes: torch.Tensor, vectors: VectorFile, origins: Origins) -> dict[str, np.ndarray]:
    """The best match of each prototype in each of the `MATCHES` images where it is closest."""
    found, start = [], 0
    for id, grid, positions in origins:
        if len(positions) and len(prototypes):
            cosines, rows = best_match(prototypes, vectors.span(start, len(positions)))
            cells = np.stack(np.unravel_index(positions[rows.numpy()], grid), axis=1)
            found.append((id, cosines.numpy(), (cells + 0.5) / grid))
        start += len(positions)
    if not found:
        return {"images": np.zeros((len(prototypes), 0), "U1"), "places": np.zeros((len(prototypes), 0, 2))}
    ids, closeness, places = (np.array(part) for part in zip(*found, strict=True))
    best = np.argsort(-closeness, axis=0, kind="stable")[:MATCHES].T
    return {"images": ids[best], "places": places[best, np.arange(len(prototypes))[:, None]]}


def _images(context: Context, class_index: int) -> list[Item]:
    having = [item for item in context.items if class_index in item.labels]
    limit = context.settings.images_per_class or len(having)
    rng = context.generator("images", context.classes[class_index])
    return having if len(having) <= limit else [having[row] for row in sorted(rng.choice(len(having), limit, replace=False))]


def _features(context: Context, item: Item) -> torch.Tensor:
    """Features [C,h,w] at scale 1, without the mirror image."""
    (image,) = images([load(item, [1.0], context.device)], context.device)
    return context.inputs["network"].features(image)[0].cpu()


def _mask(context: Context, item: Item, class_index: int) -> torch.Tensor:
    """The stored map [H,W] of one class."""
    maps = context.inputs["maps"][item.id]
    return maps.full()[maps.keys.tolist().index(class_index)]


def _cluster(context: Context, vectors: VectorFile, *purpose: str) -> torch.Tensor:
    """Cluster centres [min(N, clusters),C] from initial centres drawn for this class and set."""
    settings, rng = context.settings, context.generator(*purpose)
    first = vectors.rows(initial_rows(len(vectors), settings.clusters, rng)).to(context.device)
    return lloyd(vectors.chunks_on(context.device), first, settings.tolerance, settings.max_iterations)[0].cpu()
