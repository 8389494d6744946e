"""Initial weights of a backbone: none, ImageNet weights by torchvision or timm, or a local file."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file

from backbones.backbone import Backbone
from backbones.mxnet_file import is_mxnet_file, read_mxnet_file
from backbones.state import State, load_state, unusable
from backbones.vision_models import models, timm_network
from imagesets.errors import WrongInput

PREFIX = "backbone."  # of the names of a backbone's weights within a whole network
WRAPPERS = ("model", "state_dict")  # keys under which authors' files hold the state dict


def initialise(backbone: Backbone, name: str, weights: str) -> None:
    """Load initial weights into `backbone`, an architecture called `name`; "none" changes nothing.

    Raises WrongInput if the file is missing, is no plain state dict, or has other shapes or names, and if
    ImageNet weights do not exist or cannot be downloaded. Files are of torch, safetensors or MXNet.
    """
    if weights == "none":
        return
    state = _imagenet(backbone, name) if weights == "imagenet" else read_state(Path(weights))
    load_state(backbone, backbone.renamed(_of_backbone(state)), f"weights {weights} do not fit backbone {name}")


def refuse_unusable(backbone: Backbone, path: Path) -> None:
    """Raise WrongInput if weights in the file at `path`, which fits `backbone`, are whole numbers or not finite."""
    if wrong := unusable(backbone.state_dict(), backbone.renamed(_of_backbone(read_state(path)))):
        raise WrongInput(f"these weights cannot be used: {wrong}")


def _of_backbone(state: State) -> State:
    """Of a whole network, such as a segmenter of torchvision's, of mmsegmentation's or of this project, its backbone."""
    own = {name.removeprefix(PREFIX): value for name, value in state.items() if name.startswith(PREFIX)}
    return own or state


def read_state(path: Path) -> State:
    """The state dict in a file of torch, safetensors or MXNet, also one under a key of `WRAPPERS`; no code in the file is run.

    Raises WrongInput if there is no such file or it holds something else.
    """
    if not path.is_file():
        raise WrongInput(f"there is no weights file {path}; give a path, imagenet or none")
    if is_mxnet_file(path):
        return read_mxnet_file(path)
    try:
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a file that is no state dict can raise anything
        raise WrongInput(
            f"weights file {path} is not a plain torch state dict: it is damaged, of another program, or holds more than tensors"
        ) from error
    if isinstance(state, Mapping):
        state = next((state[wrapper] for wrapper in WRAPPERS if isinstance(state.get(wrapper), Mapping)), state)
    if not isinstance(state, Mapping) or not all(isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in state.items()):
        raise WrongInput(f"weights file {path} is not a plain state dict (parameter name to tensor) as torchvision saves it")
    return state


def _imagenet(backbone: Backbone, name: str) -> State:
    library, _, source = backbone.imagenet.partition(":")
    if not library:
        raise WrongInput(f"backbone {name} has no ImageNet weights; set its weights to none or to a file's path")
    return {"torchvision": _torchvision, "timm": _timm}[library](source, name)


def _torchvision(source: str, name: str) -> State:
    entry = models.get_model_weights(source).IMAGENET1K_V1
    file = entry.url.rsplit("/", 1)[-1]
    try:
        return entry.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:  # no network; a broken or partial file
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        raise WrongInput(
            f"the ImageNet weights {file} of {name} could not be fetched ({error}); "
            f"place that file in {folder}, or set its path in place of imagenet"
        ) from error


def _timm(source: str, name: str) -> State:
    try:
        return timm_network(source, pretrained=True).state_dict()
    except (OSError, RuntimeError) as error:  # no network; a broken or partial file
        raise WrongInput(
            f"the ImageNet weights of {name} could not be fetched ({error}); set the path of a file with them in place of "
            f"imagenet, such as model.safetensors of timm's {source}"
        ) from error
