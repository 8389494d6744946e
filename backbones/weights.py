"""Initial weights of a backbone: none, torchvision's ImageNet weights, or a local file."""

import hashlib
import pickle
from collections.abc import Mapping
from pathlib import Path

import torch

from backbones.backbone import Backbone
from backbones.vision_models import models
from imagesets.errors import WrongInput

_CLASSIFIER = ("fc.", "classifier.")  # torchvision's names of the ImageNet classifier, which no network here keeps
_SHOWN = 3  # mismatches named in an error


def initialise(backbone: Backbone, name: str, weights: str) -> None:
    """Load initial weights into `backbone`, an architecture called `name`; "none" leaves it as it was drawn.

    Raises WrongInput when the file is missing, is no plain state dict, or holds other shapes or names, and when
    ImageNet weights do not exist or cannot be fetched.
    """
    if weights == "none":
        return
    state = _imagenet(backbone, name) if weights == "imagenet" else _read(Path(weights))
    state = {key: value for key, value in state.items() if not key.startswith(_CLASSIFIER)}
    if wrong := _mismatches(backbone.state_dict(), state):
        more = f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise WrongInput(f"weights {weights} do not fit backbone {name}: {', '.join(wrong[:_SHOWN])}{more}")
    backbone.load_state_dict(state, strict=False)  # only batch counters may be missing: `_mismatches` has seen the rest


def weights_digest(path: str | Path) -> str:
    """SHA-256 of a weights file, as hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(path: Path) -> Mapping[str, torch.Tensor]:
    if not path.is_file():
        raise WrongInput(f"there is no weights file {path}; give a path, imagenet or none")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise WrongInput(f"weights file {path} is not a plain torch state dict: {str(error).splitlines()[0]}") from error
    if not isinstance(state, Mapping) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise WrongInput(f"weights file {path} is not a plain state dict (parameter name to tensor) as torchvision saves it")
    return state


def _imagenet(backbone: Backbone, name: str) -> Mapping[str, torch.Tensor]:
    if not backbone.torchvision:
        raise WrongInput(f"backbone {name} has no ImageNet weights; set its weights to none or to a file's path")
    entry = models.get_model_weights(backbone.torchvision).IMAGENET1K_V1
    file = entry.url.rsplit("/", 1)[-1]
    try:
        return entry.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:  # no network; a broken or partial file
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        raise WrongInput(
            f"the ImageNet weights {file} of {name} could not be fetched ({error}); "
            f"place that file in {folder} or give its path as the weights (backbone.weights={file})"
        ) from error


def _mismatches(expected: Mapping[str, torch.Tensor], found: Mapping[str, torch.Tensor]) -> list[str]:
    """One phrase for each entry that is missing, has another shape, or is not known, in the backbone's order."""
    wrong = []
    for key, value in expected.items():
        if key not in found:
            if not key.endswith("num_batches_tracked"):  # older files do not hold them and nothing reads them
                wrong.append(f"{key} is missing")
        elif found[key].shape != value.shape:
            wrong.append(f"{key} is {tuple(found[key].shape)} and not {tuple(value.shape)}")
    return wrong + [f"{key} is not part of it" for key in found if key not in expected]
