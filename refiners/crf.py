"""Dense CRF (Krähenbühl & Koltun, NIPS 2011) on the labels present in an image, and the confident labels made with it.

pydensecrf computes mean field on the permutohedral lattice, with a spatial and a bilateral Gaussian kernel, Potts compatibility
and symmetric normalisation. The lattices depend on the image alone, and a product with a few more label planes costs little. So
both label maps of the confident labels are refined in one inference, as twice the labels. Its softmax would couple the two;
after every step we divide each by its own sum, which undoes that exactly (no other part of a step mixes labels).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from imagesets.errors import WrongInput
from imagesets.item import VOID, Item
from maps.labelling import Background, to_labels, winners
from maps.maps import Maps
from maps.normalising import with_own_background
from refiners.threshold import seed_background
from training.stage import Context, Settings

CLIP = 1e-5  # smallest probability of a soft unary: -log stays finite (pydensecrf's own default)
STRONG = 30  # sum of weights from which a common softmax could lose one of two label maps to underflow (at a factor of exp(-87))


@dataclass(frozen=True)
class Parameters:
    """One parameter set: mean-field iterations; standard deviations in pixels (sxy) and grey levels (srgb); weights.

    `certainty` is the probability that a given label is right; unaries from label maps use it. The table of
    `recipes/crf.yaml` holds the published sets.
    """

    iterations: int
    gaussian_sxy: float
    gaussian_weight: float
    bilateral_sxy: float
    bilateral_srgb: float
    bilateral_weight: float
    certainty: float = 0.7  # IRN code


def hard(rgb: np.ndarray, labels: np.ndarray, n: int, parameters: Parameters) -> np.ndarray:
    """Refine a label map [H,W] of values 0..n-1 on the image uint8 [H,W,3]: uint8 [H,W].

    The energy of a pixel's own label is -log(certainty), that of each other label -log((1 - certainty) / (n - 1)). Label 0 is
    a label like any other; a pixel of 255 prefers no label. The result depends on n: count the labels present, not those of
    the image set.
    """
    return _hard(rgb, [labels], n, parameters)[0]


def soft(rgb: np.ndarray, probabilities: np.ndarray, parameters: Parameters) -> np.ndarray:
    """Marginals float32 [n,H,W] of scores [n,H,W], clipped to 1e-5..1 (they need not sum to one), on uint8 [H,W,3]."""
    energy = -np.log(np.clip(probabilities, CLIP, 1.0))
    return _marginals(rgb, energy[None], parameters)[0]


def refined_labels(rgb: np.ndarray, label: np.ndarray, parameters: Parameters) -> np.ndarray:
    """Refine a label map of any values uint8 [H,W] on the image uint8 [H,W,3], each pixel among the labels present.

    255 stays 255: there the CRF would guess from colours alone, and a segmenter would learn the guess.
    """
    present = np.unique(label[label != VOID])
    if len(present) < 2:
        return label
    places = np.where(label == VOID, np.uint8(VOID), np.searchsorted(present, label).astype(np.uint8))
    return np.where(label == VOID, label, present[hard(rgb, places, len(present), parameters)])


def confident(
    rgb: np.ndarray,
    maps: torch.Tensor,
    keys: np.ndarray,
    foreground: Background,
    background: Background,
    parameters: Parameters,
) -> np.ndarray:
    """Labels that two thresholds agree on (IRN, cam_to_ir_label): uint8 [H,W] of 0, class index + 1, 255 undecided.

    `maps` [n,H,W] of the classes `keys` [n] are cut at `foreground` and at the lower `background`, and each result is
    refined. Foreground of the first result is trusted, and so is background of both results.
    """
    seeds = [winners(maps, foreground), winners(maps, background)]
    first, possible = _hard(rgb, seeds, len(keys) + 1, parameters)
    trusted = to_labels(first, keys)
    return np.where((trusted == 0) & (possible != 0), np.uint8(VOID), trusted)


def confident_labels(context: Context) -> Callable[[Item], dict[str, np.ndarray]]:
    """Stage: the labels that affinity networks and AMN learn from, at the thresholds of the method that wrote the maps."""
    parameters = _parameters(context.settings)

    def one(item: Item) -> dict[str, np.ndarray]:
        maps = context.inputs["maps"][item.id]
        return {"label": confident(item.rgb(), maps.full(), maps.keys, *_backgrounds(maps, context.settings), parameters)}

    return one


def _backgrounds(maps: Maps, settings: Settings) -> tuple[Background, Background]:
    """The background scores that trusted foreground and possible foreground must exceed.

    A background map of the method's own is the first, and `confident_background` times that map is the second (SIPE: 0.5).
    """
    own, thresholds = maps.background(full=True), settings.maps
    if own is None:
        return thresholds.confident_foreground, thresholds.confident_background
    return own, own * thresholds.confident_background


def refined(rgb: np.ndarray, maps: torch.Tensor, background: Background, parameters: Parameters) -> np.ndarray:
    """Marginals float32 [n,H,W] of the classes of `maps` [n,H,W]; the unary comes from the scores [background, maps]."""
    first = torch.as_tensor(background, dtype=maps.dtype).expand(1, *maps.shape[1:])
    return soft(rgb, torch.cat([first, maps]).numpy(), parameters)[1:]


def maps(context: Context) -> Callable[[Item], dict[str, np.ndarray]]:
    """Stage of the refiner `crf` before another refiner: refined maps at full size."""
    parameters = _parameters(context.settings)

    def one(item: Item) -> dict[str, np.ndarray]:
        found = context.inputs["maps"][item.id]
        full = refined(item.rgb(), found.full(), seed_background(found, context.settings), parameters)
        return Maps(found.keys, found.size, (full,)).arrays()

    return one


def masks(context: Context) -> Callable[[Item], dict[str, np.ndarray]]:
    """Stage of the refiner `crf`: the seeds at the method's own threshold, refined."""
    parameters = _parameters(context.settings)

    def one(item: Item) -> dict[str, np.ndarray]:
        maps = context.inputs["maps"][item.id]
        seeds = winners(maps.full(), seed_background(maps, context.settings))
        return {"label": to_labels(hard(item.rgb(), seeds, len(maps.keys) + 1, parameters), maps.keys)}

    return one


def masks_of_scores(context: Context) -> Callable[[Item], dict[str, np.ndarray]]:
    """Stage of the refiner `crf` with `unary` = scores: the maps are the unary, not their seeds (PSA's and RecurSeed's codes)."""
    parameters, power = _parameters(context.settings), context.settings.background_power

    def one(item: Item) -> dict[str, np.ndarray]:
        found = context.inputs["maps"][item.id]
        if len(found.keys) == 0:
            return {"label": np.zeros(found.size, np.uint8)}
        planes = found.planes(full=True)
        scores = planes if len(planes) > len(found.keys) else with_own_background(planes, power)
        return {"label": to_labels(soft(item.rgb(), scores.numpy(), parameters).argmax(axis=0), found.keys)}

    return one


def masks_of_masks(context: Context) -> Callable[[Item], dict[str, np.ndarray]]:
    """Stage of the refiner `crf` after another refiner: the label map of that refiner, refined."""
    parameters, records = _parameters(context.settings), context.inputs["masks"]
    return lambda item: {"label": refined_labels(item.rgb(), records[item.id]["label"], parameters)}


def _parameters(settings: Settings) -> Parameters:
    return Parameters(**settings.parameters)


def _hard(rgb: np.ndarray, label_maps: Sequence[np.ndarray], n: int, parameters: Parameters) -> list[np.ndarray]:
    """Label maps [H,W] of values 0..n-1, each refined: uint8 [H,W]."""
    refined = [labels.astype(np.uint8) for labels in label_maps]
    # if all pixels agree, every message favours their label and nothing can change (n = 1 has no other label)
    mixed = [place for place, labels in enumerate(label_maps) if labels.min() != labels.max()]
    if mixed:
        energies = np.stack([_energy(label_maps[place], n, parameters.certainty) for place in mixed])
        for place, marginals in zip(mixed, _marginals(rgb, energies, parameters), strict=True):
            refined[place] = marginals.argmax(axis=0).astype(np.uint8)
    return refined


def _energy(labels: np.ndarray, n: int, certainty: float) -> np.ndarray:
    """Unary energies float32 [n,H,W] of a label map."""
    void = labels == VOID
    energy = np.full((n, *labels.shape), -np.log((1 - certainty) / (n - 1)), np.float32)
    np.put_along_axis(energy, np.where(void, 0, labels)[None].astype(np.intp), np.float32(-np.log(certainty)), axis=0)
    energy[:, void] = 0
    return energy


def _marginals(rgb: np.ndarray, energies: np.ndarray, parameters: Parameters) -> np.ndarray:
    """Marginals float32 [k,n,H,W] after mean field from k independent unary energies [k,n,H,W]."""
    k, n = energies.shape[:2]
    if k > 1 and parameters.gaussian_weight + parameters.bilateral_weight > STRONG:
        return np.concatenate([_marginals(rgb, energy[None], parameters) for energy in energies])
    model = _model(rgb, k * n, parameters)
    model.setUnaryEnergy(np.ascontiguousarray(energies, np.float32).reshape(k * n, -1))
    if k == 1:
        return np.asarray(model.inference(parameters.iterations), np.float32).reshape(energies.shape)
    current, *buffers = model.startInference()
    shares = torch.from_numpy(np.asarray(current).T).view(-1, k, n)  # the model's own memory
    shares /= shares.sum(dim=-1, keepdim=True)
    for _ in range(parameters.iterations):
        model.stepInference(current, *buffers)
        shares /= shares.sum(dim=-1, keepdim=True)
    return shares.permute(1, 2, 0).reshape(energies.shape).numpy()


def _model(rgb: np.ndarray, labels: int, given: Parameters) -> Any:
    try:
        from pydensecrf.densecrf import DenseCRF2D
    except ImportError as error:
        raise WrongInput(
            "the dense CRF needs pydensecrf: pip install pydensecrf2 (it compiles, so a C++ compiler must be there)"
        ) from error
    # pydensecrf takes neither strided nor read-only images, and decoded images are read-only
    rgb = np.require(rgb, requirements=["C", "W"])
    model = DenseCRF2D(rgb.shape[1], rgb.shape[0], labels)
    model.addPairwiseGaussian(sxy=given.gaussian_sxy, compat=given.gaussian_weight)
    sxy, srgb, weight = given.bilateral_sxy, given.bilateral_srgb, given.bilateral_weight
    model.addPairwiseBilateral(sxy=sxy, srgb=srgb, rgbim=rgb, compat=weight)
    return model
