"""The networks of stages by themselves: the images a second of one batch that stays on the device, again and again."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from backbones.extraction import for_extraction
from backbones.layout import move
from backbones.precision import compute_in
from backbones.quickening import quicken
from benchmarks.gpu_images import CLASSES
from methods import advcam, amn, cam
from orchestrator.engine.context import settings_of
from orchestrator.planning.recipes import entries
from refiners import irn
from refiners.irnet import IRNet
from segmentation import deeplab_v2
from training.stage import Settings

NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "cam-network": cam.network,
    "amn-network": amn.network,
    "irn-network": irn.network,
    "deeplabv2-segmenter": deeplab_v2.network,
}
AT_ONCE = 8  # images of a batch in extraction, each with its mirror image
SECONDS = 1.0  # of measuring, after as many warm calls as AT_LEAST
AT_LEAST = 3


def trained(manifest: Mapping[str, Any], device: torch.device) -> float:
    """Images a second of forward, backward and step of a training stage's network, at the stage's batch, crop and precision."""
    own = settings(manifest)
    network = _built(manifest, device).train()
    network.requires_grad_(True)
    if isinstance(network, IRNet):
        network.backbone.requires_grad_(False)
    compute_in(network, own.training.precision)
    quicken(network)
    optimiser = torch.optim.SGD([weights for weights in network.parameters() if weights.requires_grad], lr=1e-9)
    scales = deeplab_v2.MSC_SCALES if own.values.get("msc") else (1.0,)
    views = _views(own.batch, (own.crop, own.crop), scales, device)

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        torch.stack([output.float().mean() for view in views for output in _outputs(network, view)]).sum().backward()
        optimiser.step()

    return own.batch / _seconds(step, device)


def extracted(source: Mapping[str, Any], manifest: Mapping[str, Any], size: tuple[int, int], device: torch.device) -> float:
    """Images a second of the network of the stage with the manifest `source`, at the scales of the stage that reads it."""
    own = settings(manifest).values
    network = for_extraction(_built(source, device).eval().requires_grad_(False), own["extraction.precision"], device)
    scales = own.get("scales") or own.get("test_scales") or (1.0,)
    if "iterations" in own:
        return _climbed(network, own, size, scales, device)
    views = _views(AT_ONCE * (2 if own.get("mirror", True) else 1), size, scales, device)
    with torch.no_grad():
        return AT_ONCE / _seconds(lambda: [_read(network, view) for view in views], device)


def _climbed(network: Any, own: Mapping[str, Any], size: tuple[int, int], scales: Sequence[float], device: torch.device) -> float:
    """AdvCAM's images a second: gradients at the pixels, for one image with one class and one with two."""
    work = [
        (view, advcam.iterations_at(scale, own["iterations"]))
        for classes in (1, 2)
        for scale, view in zip(scales, _views(2 * classes, size, scales, device), strict=True)
    ]

    def climb() -> None:
        for view, iterations in work:
            for _ in range(iterations - 1):
                images = view.detach().requires_grad_()
                torch.autograd.grad(network.features(images).sum(), images)
            with torch.no_grad():
                network.features(view)

    return 2 / _seconds(climb, device)


def settings(manifest: Mapping[str, Any]) -> Settings:
    """The settings of a finished stage; its manifest names the architecture."""
    built = {name: entries("backbone")[chosen] for name, chosen in manifest["names"].items() if name.startswith("backbone")}
    return settings_of({**manifest["identity"]["settings"], **built})


def _built(manifest: Mapping[str, Any], device: torch.device) -> nn.Module:
    classes = tuple(f"class{number}" for number in range(CLASSES))
    network: nn.Module = NETWORKS[manifest["stage"]](settings(manifest), classes)
    return move(network, device)


def _views(count: int, size: tuple[int, int], scales: Sequence[float], device: torch.device) -> list[torch.Tensor]:
    shapes = [(count, 3, *(round(side * scale) for side in size)) for scale in scales]
    return [torch.randn(shape, device=device) for shape in shapes]


def _outputs(network: nn.Module, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
    if isinstance(network, amn.AMN):
        return (network(images, torch.ones(len(images), CLASSES, device=images.device)),)
    found = network(images)
    return found if isinstance(found, tuple) else (found,)


def _read(network: nn.Module, images: torch.Tensor) -> Any:
    """What extraction asks of a network: AMN's logits, IRN's boundaries, a classifier's features, a segmenter's logits."""
    if isinstance(network, IRNet):
        return network.boundaries(images)
    return network.features(images) if isinstance(network, cam.Classifier) else _outputs(network, images)


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call."""

    def several(count: int) -> float:
        wait(device)
        began = time.perf_counter()
        for _ in range(count):
            work()
        wait(device)
        return (time.perf_counter() - began) / count

    once = several(AT_LEAST) and several(1)  # warm calls choose algorithms
    return several(max(int(SECONDS / once), 1))


def wait(device: torch.device) -> None:
    """Wait for all that was asked of a device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
