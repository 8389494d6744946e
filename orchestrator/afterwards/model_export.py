"""A run's segmenter as one file for other programs, from the image to the label map: ONNX, or TorchScript."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import nn

from backbones.folding import fold_batch_norms
from imagesets.errors import WrongInput
from orchestrator.afterwards.export import about_run
from orchestrator.afterwards.model_card import card
from orchestrator.afterwards.new_folder import new_folder, refuse_used
from orchestrator.afterwards.segmenter import highest, scorer_of
from orchestrator.reading.runs import FinishedRun
from orchestrator.storage.store import write_json
from segmentation.class_scores import Scorer
from segmentation.exporting import Exported, OneSize

FILES = {"onnx": "model.onnx", "torchscript": "model.pt"}
EXAMPLE = (97, 131)  # height and width of the image on which the operations are recorded
OTHERS = ((128, 128), (61, 190), (203, 84))  # sizes for which the recording must hold too
TOLERANCE = 1e-4  # on a probability: runtimes round differently
OPSET = 18  # version of ONNX's operators

Size = tuple[int, int]
Reader = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]  # an image uint8 [H,W,3] to its label map and class scores
NO_CRF = "the run's dense CRF is no part of the file; predict and Segmenter apply it"
IN_FLOAT32 = "the run computes in {}, and the file in float32: labels of which it is unsure may differ"
NOT_COMPARED = "onnxruntime is not installed, so the file was not compared with the network (pip install onnxruntime)"


def export_model(run: FinishedRun, target: Path, form: str, size: Size | None) -> list[str]:
    """Write the run's segmenter to the new folder `target`; returns sentences on what a person should know.

    With `size` (height, width) the file takes images of that size alone. It is compared with the run's own network on images of
    several sizes before it counts. Raises WrongInput if they differ, and for what cannot be exported.
    """
    if form not in FILES:
        raise WrongInput(f"--format {form} is not one of {', '.join(FILES)}, the formats of a model")
    if form == "onnx" and find_spec("onnx") is None:
        raise WrongInput(
            "--format onnx needs the package onnx: pip install onnx onnxruntime; --format torchscript needs no other package"
        )
    refuse_used(target)
    device, notes = torch.device("cpu"), []
    reference = scorer_of(run, device, lambda network: network)
    with new_folder(target) as folder:
        _write(_module(run, device), folder / FILES[form], form, size)
        difference = _difference(folder / FILES[form], form, replace(reference, crf=None), size)
        precision = run.prediction_stage.settings.get("extraction.precision", "float32")
        other = [IN_FLOAT32.format(precision)] if precision != "float32" else []
        notes = [*([NO_CRF] if reference.crf else []), *other, *([NOT_COMPARED] if difference is None else [])]
        source = run.network_stage
        about = about_run(run, "a segmenter", source.name, run.result(source.name)[1])
        found = {"file": FILES[form], "size": size, "largest_difference": difference, "notes": notes}
        write_json(folder / "manifest.json", {"format": form, **about, **found})
        (folder / "README.txt").write_text(_readme(run, form, size, notes), encoding="utf-8")
        (folder / "model_card.md").write_text(card(run), encoding="utf-8")
    return notes


def _module(run: FinishedRun, device: torch.device) -> Exported:
    """The segmenter as one module, with batch norms folded into convolutions."""
    networks: list[nn.Module] = []

    def folded(network: nn.Module) -> nn.Module:
        fold_batch_norms(network)
        networks.append(network)
        return network

    scorer = scorer_of(run, device, folded)
    return Exported(networks[0], scorer.compute).eval().requires_grad_(False)


def _write(module: Exported, path: Path, form: str, size: Size | None) -> None:
    """Record the operations on an example and write them; without a `size` the file takes images of any size."""
    example = (torch.from_numpy(example_image(size or EXAMPLE)),)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # torch warns of each size that it records as a number, and of newer exporters
        if form == "torchscript":
            traced = torch.jit.trace(module, example, check_trace=False)
            (torch.jit.script(OneSize(traced, *size)) if size else traced).save(str(path))
            return
        image, planes = {0: "height", 1: "width"}, {1: "height", 2: "width"}
        torch.onnx.export(
            module,
            example,
            path,
            dynamo=False,  # the newer exporter takes minutes and records more sizes as numbers
            opset_version=OPSET,
            input_names=["image"],
            output_names=["label", "probabilities"],
            dynamic_axes=None if size else {"image": image, "label": image, "probabilities": planes},
        )


def _difference(path: Path, form: str, reference: Scorer, size: Size | None) -> float | None:
    """The largest difference of a probability between the file and the network; None if nothing here reads the file.

    Raises WrongInput if it is above TOLERANCE.
    """
    run = reader(path, form)
    if run is None:
        return None
    differences = {other: _differing(run, reference, other) for other in ([size] if size else [EXAMPLE, *OTHERS])}
    worst = max(differences, key=lambda other: differences[other])
    if not differences[worst] <= TOLERANCE:
        told = f"at {worst[0]}x{worst[1]} pixels the {form} file differs from the network by {differences[worst]:.2g}"
        way = "; what it computes is not exact in this format" if size else "; give one size for all images: --size 512x512"
        raise WrongInput(told + way)
    return differences[worst]


def _differing(run: Reader, reference: Scorer, size: Size) -> float:
    image = example_image(size)
    expected, (label, found) = reference(image), run(image)
    alike = found.shape == expected.shape and np.array_equal(label, highest(found))
    return float(np.abs(found - expected).max()) if alike else float("inf")


def reader(path: Path, form: str) -> Reader | None:
    """A function that runs an exported file; None for ONNX without onnxruntime."""
    if form == "torchscript":
        module = torch.jit.load(str(path))
        return lambda image: tuple(made.numpy() for made in module(torch.from_numpy(image)))
    if find_spec("onnxruntime") is None:
        return None
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path))
    return lambda image: tuple(session.run(["label", "probabilities"], {"image": image}))


def example_image(size: Sequence[int]) -> np.ndarray:
    """Coloured waves, uint8 [H,W,3]: networks see edges in them, and no size repeats another."""
    rows, columns, phases = np.ogrid[: size[0], : size[1], :3]
    return (127.5 + 127.5 * np.sin(rows / 7 + phases * 2) * np.cos(columns / 11 + phases)).astype(np.uint8)


def _readme(run: FinishedRun, form: str, size: Size | None, notes: Sequence[str]) -> str:
    taken = f"{size[0]}x{size[1]}" if size else "any size"
    use = {
        "onnx": 'onnxruntime.InferenceSession("model.onnx").run(None, {"image": image})',
        "torchscript": 'torch.jit.load("model.pt")(torch.from_numpy(image))',
    }
    told = "".join(f"Note: {note}.\n" for note in notes)
    return f"""The segmenter of run {run.name} ({run.results["method"]}), made by wsss-orch.
model_card.md says what it learnt from and how it was scored.

    image = numpy.array(PIL.Image.open("photograph.jpg").convert("RGB"))  # uint8 [H,W,3], of {taken}
    label, probabilities = {use[form]}

label is uint8 [H,W]; manifest.json names its values. probabilities is float32 [1 + classes,H,W], background first.
Normalising, test scales and mirror images are inside.
{told}"""
