"""ReCAM: class re-activation, a second classifier trained with softmax cross-entropy on the features of one class at a time.

Chen et al., Class Re-Activation Maps for Weakly-Supervised Semantic Segmentation, CVPR 2022. It starts from a converged CAM
network. The map of each class present masks the feature map, and a new bias-free classifier FC2 learns to name that class from
the pooled result (Eq. 4-7). Weights w'', made from those of FC1 and FC2, give the maps (Eq. 8-9).

Where the public code and the text differ, we follow the code, because the published figures come from it:
* the mask is divided by its maximum + 1e-5 (Eq. 2: by its maximum), and gradient flows through mask and maximum;
* the published rate, 5e-4, is FC2's alone; backbone and FC1 have a tenth of it;
* the mean over a batch counts images without labels, whose loss is 0 (Eq. 7 does not say).
The code offers two of the four weight choices (VOC: product, COCO: FC1's); here one forward pass gives all four.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

import backbones
from backbones.state import load_state
from imagesets.item import Item
from imagesets.labelled_crop import LabelledCrop
from maps.extraction import per_image
from maps.reading import unit_maximum
from methods import cam
from training import optimisers
from training.examples import Example, shuffled
from training.over_epochs import over_epochs
from training.stage import Context, Losses, Outputs, PerImage, Settings, Training

# weight choice -> w'' from the weights of FC1 and of FC2, both [K,C] (Table 1)
CHOICES: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "w": lambda first, second: first,
    "w2": lambda first, second: second,
    "sum": torch.add,
    "product": torch.mul,
}


class Reactivated(cam.Classifier):
    """A CAM network with FC2, a second bias-free classifier."""

    def __init__(self, backbone: backbones.Backbone, classes: int) -> None:
        super().__init__(backbone, classes)
        self.reactivation = nn.Conv2d(backbone.channels[-1], classes, 1, bias=False)

    def chosen_weights(self, choice: str | None = None) -> torch.Tensor:
        """The weights w'' [K,C] of a choice in `CHOICES`, the first classifier's by default."""
        return self.weights if choice is None else CHOICES[choice](self.weights, self.reactivation.weight.flatten(1))


class ReactivationObjective(nn.Module):
    """FC1's binary cross-entropy plus `balance` (lambda) times FC2's softmax cross-entropy (Eq. 8)."""

    def __init__(self, network: Reactivated, balance: float) -> None:
        super().__init__()
        self.network, self.balance = network, balance

    def forward(self, batch: dict[str, torch.Tensor], step: int) -> tuple[Losses, Outputs]:
        """`batch` holds image [B,3,crop,crop] and labels [B,K] in {0,1}.

        Outputs are features [B,C,h,w] and the logits [B,K] of FC1.
        """
        first, second = self.network.chosen_weights("w"), self.network.chosen_weights("w2")
        features, labels = self.network.features(batch["image"]), batch["labels"]
        logits = cam.class_scores(features, first)
        losses = {
            "classification": cam.classification_loss(logits, labels, "bce"),
            "reactivation": self.balance * reactivation_loss(class_features(features, first) @ second.T, labels),
        }
        return losses, {"features": features, "logits": logits}


def class_features(features: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Mean feature vector of an image under each class's normalised map (Eq. 4): [B,C,h,w] and weights [K,C] to [B,K,C]."""
    return masked_features(features, torch.einsum("kc,bchw->bkhw", weights, features).relu())


def reactivation_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Softmax cross-entropy of FC2 (Eq. 6-7): an image's mean over its own classes, then the mean over images.

    `logits` [B,K,K] are FC2's scores of each class's features; the right answer is that class. `labels` are multi-hot [B,K].
    """
    own = -logits.log_softmax(dim=2).diagonal(dim1=1, dim2=2)
    return cam.mean_over_labels(own, labels).mean()


def network(settings: Settings, classes: tuple[str, ...]) -> Reactivated:
    """The network that `training` delivers, for trained weights to be loaded into."""
    return cam.build(Reactivated, settings, classes, weights="none")


def training(context: Context) -> Training:
    """Train both classifiers and the backbone, from the trained CAM network (word `network`)."""
    settings = context.settings
    module = network(settings, context.classes)
    told = "recam starts from the network before it in the expression, and this one is not a network that recam can start from"
    load_state(module, context.inputs["network"].state_dict(), told, without=("reactivation.",))  # all except FC2
    if cam.pretrained(settings):
        module.backbone.freeze(settings.frozen)
    converged = [*module.backbone.parameters(), *module.classifier.parameters()]
    parts = (converged, settings.lr), (module.reactivation.parameters(), settings.head_lr)
    objective = ReactivationObjective(module, getattr(settings, "lambda"))
    sample = LabelledCrop(settings.long_side, settings.crop, len(context.classes))
    return over_epochs(context, module, objective, sample, optimisers.groups(settings.weight_decay, *parts))


class WithReactivation(nn.Module):
    """The losses of a network that makes its own maps, and FC2's of features under those maps (ReCAM Table 4: EPS, EDAM).

    `objective` puts out features [B,C,h,w] and maps [B,K,h,w], which are not negative.
    """

    def __init__(self, objective: nn.Module, channels: int, classes: int, balance: float) -> None:
        super().__init__()
        self.objective, self.balance = objective, balance
        self.reactivation = nn.Conv2d(channels, classes, 1, bias=False)

    def forward(self, batch: dict[str, torch.Tensor], step: int) -> tuple[Losses, Outputs]:
        """As the objective's, with the loss `reactivation`; `batch` holds labels [B,K] in {0,1}."""
        losses, outputs = self.objective(batch, step)
        logits = masked_features(outputs["features"], outputs["maps"]) @ self.reactivation.weight.flatten(1).T
        return losses | {"reactivation": self.balance * reactivation_loss(logits, batch["labels"])}, outputs


def masked_features(features: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    """Mean feature vectors [B,K,C] of features [B,C,h,w] under each of maps [B,K,h,w], divided by its maximum (Eq. 4).

    Maps and features are contracted over positions, so no [B,K,C,h,w] is in memory.
    """
    masks = unit_maximum(maps)
    return torch.einsum("bkhw,bchw->bkc", masks, features) / masks[0, 0].numel()


def with_reactivation(
    context: Context,
    module: Any,
    objective: nn.Module,
    sample: Callable[[Item, np.random.Generator], dict[str, torch.Tensor]],
    examples: Callable[[Sequence[Item], np.random.Generator], Sequence[Example]] = shuffled,
) -> Training:
    """Train a network like that of the word `network` further, by its own `objective` and FC2's loss.

    `module` has no weights yet, and its features are the last of its `backbone`. FC2 ends with the training: the network's own
    maps count.
    """
    settings = context.settings
    module.load_state_dict(context.inputs["network"].state_dict())
    channels, classes = module.backbone.channels[-1], len(context.classes)
    whole = WithReactivation(objective, channels, classes, getattr(settings, "lambda"))
    parts = (module.parameters(), settings.lr), (whole.reactivation.parameters(), settings.head_lr)
    groups = optimisers.groups(settings.weight_decay, *parts)
    return over_epochs(context, module, whole, sample, groups, examples=examples)


def responses(context: Context) -> PerImage:
    """The maps of one image's own classes for all four weight choices, one after the other, from one forward pass."""
    weights = torch.stack([context.inputs["network"].chosen_weights(choice) for choice in CHOICES])

    def class_maps(features: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        return cam.class_maps(features, weights[:, keys].flatten(0, 1))

    return per_image(context, class_maps)


def maps(context: Context) -> Callable[[Item], dict[str, np.ndarray]]:
    """The maps of one image for the weight choice of the setting `weights`."""
    place = list(CHOICES).index(context.settings.weights)

    def one(item: Item) -> dict[str, np.ndarray]:
        stored = context.inputs["responses"][item.id]
        count = len(stored["keys"])
        own = slice(place * count, (place + 1) * count)
        return {name: array[own] if name.startswith("grid") else array for name, array in stored.items()}

    return one
