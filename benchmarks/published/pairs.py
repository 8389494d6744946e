"""What the public code makes of an image at test time, and of maps at several scales."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional

from benchmarks.published.bench import Bench
from benchmarks.published.rounds import PRECISIONS, PUBLISHED, Form, Stage, timed
from imagesets.transforms import MEAN, STANDARD_DEVIATION
from maps.grids import rounded_up, strided
from maps.maps import Maps
from orchestrator.planning.references import resolve

SCALES = (1.0, 0.5, 1.5, 2.0)


def read(path: Path) -> np.ndarray:
    """The image uint8 [H,W,3]."""
    return np.asarray(Image.open(path).convert("RGB"))


def pair(rgb: np.ndarray, scale: float = 1.0) -> torch.Tensor:
    """The normalised image and its mirror [2,3,h,w] at a scale."""
    if scale != 1:
        height, width = (round(side * scale) for side in rgb.shape[:2])
        rgb = np.asarray(Image.fromarray(rgb).resize((width, height), Image.Resampling.BICUBIC))
    image = np.empty(rgb.shape, np.float32)
    for channel in range(3):
        image[..., channel] = (rgb[..., channel] / 255.0 - MEAN[channel]) / STANDARD_DEVIATION[channel]
    planes = image.transpose(2, 0, 1)
    return torch.from_numpy(np.stack([planes, planes[..., ::-1]]))


Network = TypeVar("Network", bound=nn.Module)


def plain(network: Network, state: Mapping[str, torch.Tensor]) -> Network:
    """A plain network with the weights of ours, for extraction."""
    network.load_state_dict(state)
    return network.eval().requires_grad_(False)


def enlarged(grid: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Maps [n,h,w] at another size."""
    return functional.interpolate(grid[None], tuple(size), mode="bilinear", align_corners=False)[0]


def summed(grids: Sequence[torch.Tensor], size: tuple[int, int], keys: Sequence[int]) -> list[torch.Tensor]:
    """Maps of all classes [K,h_r,w_r] at several scales to those of the classes `keys` at stride 4 and at full size, in 0..1."""
    high = torch.stack([enlarged(grid, rounded_up(size)) for grid in grids]).sum(0)[:, : size[0], : size[1]]
    made = [torch.stack([enlarged(grid, strided(size)) for grid in grids]).sum(0)[list(keys)], high[list(keys)]]
    return [planes / (planes.amax(dim=(1, 2), keepdim=True) + 1e-5) for planes in made]


def maps_stage(bench: Bench, name: str, published: Callable[[], Sequence[torch.Tensor]], **records: object) -> Stage:
    """A stage of maps, whose results are the maps at stride 4 and at full size; ours are stored in half precision between."""

    def ours(precision: str) -> Form:
        one, item = bench.per_image(name, precision, **records), bench.example()[0]
        reader = resolve(bench.stage(name).recipe.read)

        def work() -> list[torch.Tensor]:
            maps = Maps.of(one(item), reader)
            return [maps.strided(), maps.full()]

        return timed(work)

    return Stage(1, {PUBLISHED: timed(torch.no_grad()(published)), **{precision: ours(precision) for precision in PRECISIONS}})
