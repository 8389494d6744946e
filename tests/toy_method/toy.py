"""A toy method that uses every joint of the frame: a network with a decoder, two phases, a fitted table, maps, an add-on.

It comes from no paper. A few convolutions give every cell a probability of each label, background among them, and learn from
image-level labels alone; a second phase goes on from the first at another rate. An image's map of a class is its probability
divided by how high the class peaks in the images of the fitting list, and the map of background is that label's own.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from backbones.precision import MixedPrecision
from imagesets.crops import Crop, by_scale
from imagesets.item import Item
from imagesets.transforms import normalise, rescale
from maps.maps import Maps
from maps.reading import summed
from training import optimisers
from training.stage import Context, Losses, Outputs, Settings, Training

LEAST = 1e-3  # a class that never peaks divides by this


class Layers(MixedPrecision, nn.Sequential):
    """Layers that compute in `training.precision` and `extraction.precision`, as a backbone does."""


class Painter(nn.Module):
    """Normalised images [B,3,H,W] to logits [B,K+1,ceil(H/4),ceil(W/4)], background first."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.layers = Layers(
            *(nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, classes + 1, 1))
        )

    def decode(self, images: torch.Tensor) -> torch.Tensor:
        """Logits of every label in every cell."""
        return self.layers(images)


class Presence(nn.Module):
    """Binary cross-entropy of the image-level labels; a class's score is the smooth maximum of its lead over background."""

    def __init__(self, network: Painter) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: dict[str, torch.Tensor], step: int) -> tuple[Losses, Outputs]:
        """`batch` holds image [B,3,crop,crop] and labels [B,K]; the output is logits [B,K+1,h,w]."""
        logits = self.network.decode(batch["image"])
        lead = (logits[:, 1:] - logits[:, :1]).flatten(2).logsumexp(dim=2)
        named = {"presence": functional.binary_cross_entropy_with_logits(lead, batch["labels"])}
        return named, {"logits": logits}


class Sharp(nn.Module):
    """An objective and `weight` times the entropy of a cell's labels."""

    def __init__(self, objective: nn.Module, weight: float) -> None:
        super().__init__()
        self.objective, self.weight = objective, weight

    def forward(self, batch: dict[str, torch.Tensor], step: int) -> tuple[Losses, Outputs]:
        """As the objective's, with the loss `sharpness`."""
        losses, outputs = self.objective(batch, step)
        logarithms = outputs["logits"].log_softmax(dim=1)
        entropy = -(logarithms.exp() * logarithms).sum(dim=1).mean()
        return losses | {"sharpness": self.weight * entropy}, outputs


def sharpened(training: Training, context: Context) -> Training:
    """The add-on `sharp`."""
    return replace(training, objective=Sharp(training.objective, context.settings.sharp.weight))


def network(settings: Settings, classes: tuple[str, ...]) -> Painter:
    """The network that `training` delivers, for trained weights to be loaded into."""
    return Painter(len(classes))


def training(context: Context) -> Training:
    """Train on image-level labels, from the word `network` where a phase came before."""
    settings, painter = context.settings, network(context.settings, context.classes)
    if "network" in context.inputs:
        painter.load_state_dict(context.inputs["network"].state_dict())
    steps = optimisers.steps(len(context.items), settings.batch, settings.epochs)
    return Training(
        network=painter,
        objective=Presence(painter),
        sample=Shown(settings.crop, len(context.classes)),
        optimiser=optimisers.build("adamw", optimisers.groups(0.0, (painter.parameters(), settings.lr))),
        schedule=optimisers.poly(steps),
        batch=settings.batch,
        steps=steps,
    )


@dataclass(frozen=True)
class Shown:
    """Makes one training example: image RGBA uint8 [4,crop,crop] and multi-hot labels float32 [K]."""

    crop: int
    classes: int

    def __call__(self, item: Item, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        rgb = item.rgb()
        crop = Crop.drawn(by_scale(rgb.shape[:2], (0.8, 1.25), rng), self.crop, rng)
        return {"image": torch.from_numpy(crop.image(rgb)), "labels": torch.from_numpy(item.multi_hot(self.classes))}


def peaks(context: Context) -> Callable[[int], dict[str, np.ndarray]]:
    """How high one class's probability peaks in the images that show it, on average: {"peak": float32 [1]}."""

    def one(class_index: int) -> dict[str, np.ndarray]:
        having = [item for item in context.items if class_index in item.labels]
        found = [_probabilities(context, item, 1.0)[class_index + 1].max() for item in having]
        return {"peak": np.array([np.mean(found) if found else 0], np.float32)}

    return one


def maps(context: Context) -> Callable[[Item], dict[str, np.ndarray]]:
    """The maps of one image's own classes behind that of background, at every scale, and the peaks that they are divided by."""
    table = [max(LEAST, float(context.inputs["fitted"][name]["peak"][0])) for name in context.classes]

    def one(item: Item) -> dict[str, np.ndarray]:
        keys = np.asarray(item.labels, np.int64)
        grids = tuple(_probabilities(context, item, scale)[[0, *(keys + 1)]] for scale in context.settings.scales)
        own = np.array([table[key] for key in keys], np.float32)
        return Maps(keys, item.rgb().shape[:2], grids, {"peaks": own}).arrays()

    return one


def read(maps: Maps, full: bool) -> torch.Tensor:
    """The reader: the mean over scales, each class divided by its peak; the first map is the background's."""
    planes = summed(maps, full) / len(maps.grids)
    planes[1:] /= torch.from_numpy(maps.extras["peaks"])[:, None, None]
    return planes.clamp(max=1)


@torch.no_grad()
def _probabilities(context: Context, item: Item, scale: float) -> np.ndarray:
    image = torch.from_numpy(normalise(rescale(item.rgb(), scale)))[None].to(context.device)
    return context.inputs["network"].decode(image)[0].softmax(dim=0).cpu().numpy()
