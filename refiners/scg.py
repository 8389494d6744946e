"""SCG, self-correlation map generation: seeds of a map spread to positions whose features are like those of the seeds.

Pan et al., Unveiling the Potential of Structure Preserving for Weakly Supervised Object Localization, CVPR 2021 (SPA); RecurSeed
(Jo, Yu and Kim, arXiv 2204.06754, section 3.1) takes the features of all layers. Column j of a matrix H [N,N] says how much
each of the N positions is like position j. There are three forms:

* `authors` (first release of RecurSeed's code; the default, because its published figures come from it): cosines below
  `first_threshold` are 0. S1 is the rest by column sums. S2 = P P by column sums, where P is S1 without its diagonal; values
  below `second_threshold` / N are 0. H is the mean over layers of max(S1, `second_weight` S2), each by column sums (the code adds
  them, which is the same once columns are stretched). The columns of positions where the map is >= `foreground` are stretched to
  0..1, added, and stretched again; so are those of positions <= `background`. The new map is the rectified difference,
  stretched: each class with seeds has a peak of 1.
* `spa` (SPA's code): the same without the division by column sums after the maximum.
* `equations` (RecurSeed's text): S1 are rectified cosines. Row i of S2 is the mean over k of cos_ik cos_kj, stretched. H is the
  mean over layers of max(S1, S2). The new map is relu(mean row of positions > foreground - mean row of positions < background),
  not stretched. Its peaks are 0.06 to 0.4, which CertainFilter's 0.55 never lets through.

A matrix takes 4 N^2 bytes (4 MB at 32x32, 67 MB at 64x64); four are in memory at a time, whatever the number of layers, images
and classes. A class without seeds has a map of zeros.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields

import torch

from imagesets.views import Loaded, pairs, sum_of_pairs
from maps.extraction import at_scales, own_maps
from maps.grids import resize, strided
from maps.reading import unit_maximum
from training.stage import Context, PerImage, Settings

EPSILON = 1e-10  # added to norms, sums and ranges (RecurSeed code)
SPA_EPSILON = 1e-5  # added to the sums of S1 and S2 (SPA code)


@dataclass(frozen=True)
class Parameters:
    """The settings of `scg.yaml` with these names; `form` is one of `FORMS`."""

    first_threshold: float = 0.5
    second_threshold: float = 0.1
    foreground: float = 0.3
    background: float = 0.05
    iterations: int = 1
    second_weight: float = 1.0
    form: str = "authors"

    @classmethod
    def of(cls, settings: Settings) -> "Parameters":
        """The parameters in the settings of scg.yaml, which have the same names."""
        return cls(**{field.name: getattr(settings, field.name) for field in fields(cls)})


@torch.no_grad()
def spread(features: Sequence[torch.Tensor], cams: torch.Tensor, parameters: Parameters = Parameters()) -> torch.Tensor:
    """Maps [B,n,h,w] of 0..1, each class with a maximum of 1 or without any, spread over alike positions: [B,n,h,w] in 0..1.

    `features` [B,C_l,h_l,w_l] of any number of layers are resized to the grid of the maps. Multiply the result by the image's
    labels, if a class that the image has not may have a map.
    """
    correlate, collect = FORMS[parameters.form]
    size = cams.shape[-2:]
    found = torch.empty_like(cams)
    for place, own in enumerate(cams):
        total = cams.new_zeros(size.numel(), size.numel())
        for layer in features:
            part = correlate(resize(layer[place].to(cams.dtype), size).flatten(1), parameters)
            total.add_(part, alpha=1 / len(features))
        found[place] = collect(total, own.flatten(1), parameters).unflatten(1, size)
    return found


def correlation(vectors: torch.Tensor, parameters: Parameters) -> torch.Tensor:
    """One layer's part of H [N,N] from its vectors [C,N], as RecurSeed's authors have it."""
    return _by_columns(_larger(vectors, parameters, EPSILON))


def spa_correlation(vectors: torch.Tensor, parameters: Parameters) -> torch.Tensor:
    """One layer's part of H [N,N] from its vectors [C,N], as in SPA's code."""
    return _larger(vectors, parameters, SPA_EPSILON)


def printed_correlation(vectors: torch.Tensor, parameters: Parameters) -> torch.Tensor:
    """One layer's part of H [N,N] by RecurSeed's equations, rows and columns swapped: its rows are stretched, our columns."""
    cosines = _cosines(vectors)
    return torch.maximum(_stretched(cosines @ cosines / len(cosines), dim=0), cosines.relu_())


def seeded(total: torch.Tensor, maps: torch.Tensor, parameters: Parameters) -> torch.Tensor:
    """Maps [n,N] from H [N,N], which it overwrites, and the maps [n,N] that give the seeds (codes of RecurSeed and SPA)."""
    columns = _stretched(total, dim=0)
    foreground, background = (
        _stretched(seeds.to(maps.dtype) @ columns.T, dim=1)
        for seeds in (maps >= parameters.foreground, maps <= parameters.background)
    )
    return _stretched((foreground - background).relu_(), dim=1)


def printed_seeded(total: torch.Tensor, maps: torch.Tensor, parameters: Parameters) -> torch.Tensor:
    """Maps [n,N] from H [N,N] and the maps [n,N] that give the seeds, by RecurSeed's equations."""
    foreground, background = (
        seeds.to(maps.dtype) @ total.T / seeds.sum(dim=1, keepdim=True).clamp(min=1)
        for seeds in (maps > parameters.foreground, maps < parameters.background)
    )
    return (foreground - background).relu_()


Correlate = Callable[[torch.Tensor, Parameters], torch.Tensor]
Collect = Callable[[torch.Tensor, torch.Tensor, Parameters], torch.Tensor]
FORMS: dict[str, tuple[Correlate, Collect]] = {
    "authors": (correlation, seeded),
    "spa": (spa_correlation, seeded),
    "equations": (printed_correlation, printed_seeded),
}


def _cosines(vectors: torch.Tensor) -> torch.Tensor:
    units = vectors / vectors.norm(dim=0, keepdim=True).add_(EPSILON)
    return units.T @ units


def _similar(vectors: torch.Tensor, parameters: Parameters) -> torch.Tensor:
    """The cosines [N,N] of vectors [C,N]; what is negative or below the threshold is 0."""
    cosines = _cosines(vectors)
    return cosines.masked_fill_(cosines < max(parameters.first_threshold, 0), 0)


def _second(similar: torch.Tensor, parameters: Parameters, epsilon: float) -> torch.Tensor:
    """S2 [N,N]; overwrites the cosines."""
    transition = _by_columns(similar.fill_diagonal_(0), epsilon)
    found = transition
    for _ in range(parameters.iterations):
        found = _by_columns(found @ transition)
    return found.masked_fill_(found < parameters.second_threshold / len(found), 0)


def _larger(vectors: torch.Tensor, parameters: Parameters, epsilon: float) -> torch.Tensor:
    similar = _similar(vectors, parameters)
    first = _by_columns(similar.clone(), epsilon)
    second = _second(similar, parameters, epsilon).mul_(parameters.second_weight)
    return torch.maximum(first, second, out=first)


def _by_columns(matrix: torch.Tensor, epsilon: float = EPSILON) -> torch.Tensor:
    """The matrix, each column divided in place by its sum."""
    return matrix.div_(matrix.sum(dim=0, keepdim=True).add_(epsilon))


def _stretched(values: torch.Tensor, dim: int) -> torch.Tensor:
    """Values, in place, to 0..1 along one axis by their minimum and maximum."""
    low, high = values.amin(dim=dim, keepdim=True), values.amax(dim=dim, keepdim=True)
    return values.sub_(low).div_(high.sub_(low).add_(EPSILON))


def maps(context: Context) -> PerImage:
    """Stage of the extractor `scg`: the maps of the word `maps`, spread over the features of the network that made them.

    Features are sums over scales and mirror images (RecurSeed code), on a grid of `stride` pixels a cell over the image.
    """
    settings, network, device = context.settings, context.inputs["network"], context.device
    parameters = Parameters.of(settings)

    @torch.no_grad()
    def compute(batch: Sequence[Loaded]) -> list[list[torch.Tensor]]:
        if not batch[0].views:  # no labels, no maps
            return [[] for _ in batch]
        height, width = batch[0].rgb.shape[:2]
        size = strided((height, width), settings.stride)
        layers = summed_layers(network.backbone, pairs(batch, device), settings.layers, size)
        found = []
        for place, loaded in enumerate(batch):
            own = unit_maximum(resize(context.inputs["maps"][loaded.item.id].strided(), size)).to(device)
            found.append([spread([layer[place : place + 1] for layer in layers], own[None], parameters)[0]])
        return found

    return at_scales(context, compute, own_maps)


def summed_layers(
    backbone: Callable[[torch.Tensor], Sequence[torch.Tensor]],
    views: Iterator[torch.Tensor],
    numbers: Sequence[int],
    size: Sequence[int],
) -> list[torch.Tensor]:
    """The features [B,C_l,*size] of layers 1 (the first tap) to 5, summed over views [B,2,3,h,w] of each scale."""
    found: list[torch.Tensor] = []
    for scaled in views:
        taps = backbone(scaled.flatten(0, 1))
        both = [sum_of_pairs(resize(taps[number - 1], size)) for number in numbers]
        found = [total.add_(layer) for total, layer in zip(found, both, strict=True)] if found else both
    return found
