"""A run's segmenter for single images, in Python: `from orchestrator import Segmenter`."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from numbers import Integral
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from PIL import Image

from backbones.extraction import for_extraction
from imagesets.deep_image import EIGHT_BIT_MODES, NO_RULE, DeepItem, Range
from imagesets.errors import WrongInput
from imagesets.file_check import SMALLEST, UPRIGHT, attempt, image_problems, orientation_of
from imagesets.overlay import OPACITY, overlay
from imagesets.rescaling import fit_factor
from orchestrator.engine.context import load_network, settings_of, stored
from orchestrator.engine.job import Input
from orchestrator.planning.recipes import load_all
from orchestrator.planning.references import resolve
from orchestrator.planning.settings import checked
from orchestrator.planning.stage import Stage
from orchestrator.reading.runs import FinishedRun
from orchestrator.storage.place import STORE
from orchestrator.storage.result import Result
from segmentation.class_scores import Scorer
from segmentation.windows import in_windows
from training.memory import kept_memory
from training.stage import Context

Picture = Image.Image | np.ndarray | str | Path  # RGB; arrays are uint8 [H,W,3], or [H,W] in grey levels
LARGEST = 2048 * 2048  # pixels that a network gets at once, unless a person wants it otherwise
SIDE = 1024  # pixels a side of the windows of a larger image
LEAST = 64  # pixels a side: less is no window that a network can judge
AUTO, WHOLE = "auto", "whole"
Ready = Callable[[torch.nn.Module], torch.nn.Module]
Tile = int | str  # pixels a side of the windows, AUTO or WHOLE


class Segmenter:
    """The segmenter of a finished run, with the run's own test scales, mirror images and CRF.

        segmenter = Segmenter.load("lpcam+amn")
        label = segmenter.predict("photograph.jpg")  # uint8 [H,W]: 0 is background, 1 the first of segmenter.classes

    An image is a path, a PIL image or an array uint8 [H,W,3]; a list of images gives a list of results. `tile` is for images that
    do not fit into memory: the pixels a side of the windows in which an image is segmented. "auto" does so, in windows of 1024
    pixels, for images of more than 2048x2048 pixels at the size at which the network sees them; "whole" never does.
    """

    def __init__(self, run: FinishedRun, device: str = "auto", threads: int | None = None):
        self.run, self.device = run, device_of(device)
        own = run.prediction_stage.settings.get("extraction.threads", 1) if threads is None else threads
        self.threads = checked("threads", own, load_all()["extraction"].settings["threads"])
        self.scorer = scorer_of(run, self.device)

    @classmethod
    def load(cls, name: str | Path, store: str | Path = STORE, device: str = "auto", threads: int | None = None) -> "Segmenter":
        """The segmenter in the bundle at a path, or of a run, or of the newest run of a method expression, in `store`.

        `device` is one of torch's, such as cpu or cuda; "auto" takes a GPU if there is one. `threads` are those of torch on a CPU
        while it segments; by default as many as in the run, which gives the run's own results bit by bit. Raises WrongInput.
        """
        from orchestrator.afterwards.bundle import open_model  # which reads this module

        return cls(open_model(Path(store).expanduser().resolve(), str(name)), device, threads)

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names; label 1 is the first, label 0 is background."""
        return self.run.classes

    @overload  # a path in a string is a sequence of strings to mypy
    def predict(self, images: Picture, tile: Tile = AUTO) -> np.ndarray: ...  # type: ignore[overload-overlap]
    @overload
    def predict(self, images: Sequence[Picture], tile: Tile = AUTO) -> list[np.ndarray]: ...
    def predict(self, images: Any, tile: Tile = AUTO) -> Any:
        """The label map of an image, uint8 [H,W], or those of a list of images."""
        return self._each(images, tile, highest)

    @overload
    def probabilities(self, images: Picture, tile: Tile = AUTO) -> np.ndarray: ...  # type: ignore[overload-overlap]
    @overload
    def probabilities(self, images: Sequence[Picture], tile: Tile = AUTO) -> list[np.ndarray]: ...
    def probabilities(self, images: Any, tile: Tile = AUTO) -> Any:
        """The class scores of an image, float32 [1+classes,H,W] with background first, or those of a list of images.

        The highest gives the label. They sum to one, but for runs with the fusion max_softmax, and single-stage runs without CRF.
        """
        return self._each(images, tile, lambda scores: scores)

    def overlay(self, image: Picture, label: np.ndarray | None = None, opacity: float = OPACITY) -> Image.Image:
        """The image under its label map in colours; `label` is predicted if it is not given."""
        rgb = pixels(image, range_of(self.run))
        return Image.fromarray(overlay(rgb, self.predict(rgb) if label is None else label, opacity))

    def _each(self, images: Any, tile: Tile, finish: Callable[[np.ndarray], np.ndarray]) -> Any:
        check_tile(tile)
        if isinstance(images, list | tuple):
            return [self._each(image, tile, finish) for image in images]
        with kept_memory(), threads_of_torch(self.threads):
            return segmented(self.scorer, pixels(images, range_of(self.run)), tile, finish)

    def __repr__(self) -> str:
        return f"Segmenter({self.run.name}, classes: {', '.join(self.classes)}, on {self.device})"


@contextmanager
def threads_of_torch(threads: int) -> Iterator[None]:
    """Let torch use this number of threads within the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def segmented(scorer: Scorer, rgb: np.ndarray, tile: Tile, finish: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """`finish` of the class scores of an image, or of each of its windows: [...,H,W]."""
    side = side_of(rgb.shape, scorer.fit, tile)
    if not side:
        return finish(scorer(rgb))
    return in_windows(rgb, side, lambda window: finish(scorer(window, rgb.shape[:2])))


def highest(scores: np.ndarray) -> np.ndarray:
    """The label map uint8 [H,W] of class scores [L,H,W]."""
    return torch.from_numpy(scores).max(0).indices.to(torch.uint8).numpy()  # NumPy's argmax takes several times as long


def side_of(size: Sequence[int], fit: Sequence[int], tile: Tile) -> int:
    """The side, in pixels of the image, of the windows in which an image of `size` is segmented; 0 if it is segmented whole."""
    if isinstance(tile, Integral):
        return int(tile)
    factor = fit_factor(size[:2], fit)
    large = size[0] * size[1] * factor**2 > LARGEST
    return round(SIDE / factor) if tile == AUTO and large else 0


def check_tile(tile: Tile, given: str = "") -> None:
    """Raise WrongInput for a `tile` that is no size of windows and no word; `given` is how a command was given it."""
    if tile not in (AUTO, WHOLE) and not (isinstance(tile, Integral) and int(tile) >= LEAST):
        raise WrongInput(f"{given or f'tile={tile!r}'} is neither {AUTO} nor {WHOLE} nor a number of pixels from {LEAST} on")


def device_of(name: str) -> torch.device:
    """The device of that name; "auto" is a GPU if there is one. Raises WrongInput for one that is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except Exception as error:  # torch raises what it likes
        told = str(error).splitlines()[0]
        raise WrongInput(f"the device {name!r} cannot be used here ({told}); auto takes a GPU if there is one") from None


def range_of(run: FinishedRun) -> Range:
    """The run's rule for image files of more than 8 bits per channel."""
    low, high = run.settings["images.range"]
    return low, high


def pixels(image: Any, range: Range = NO_RULE) -> np.ndarray:
    """An image as uint8 [H,W,3]; `range` is the rule for files of more than 8 bits.

    Raises WrongInput for what is no image, and for an image that readers disagree on.
    """
    if isinstance(image, str | Path):
        path = Path(image).expanduser()
        if problems := attempt(path, partial(image_problems, path, True, range, of_set=False)):
            raise WrongInput("; ".join(problems))
        return DeepItem(path.stem, path, (), range=range).rgb()
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3):
            raise WrongInput(
                f"an image array must be uint8 [H,W,3] with values up to 255, or [H,W] in grey; this one is "
                f"{image.dtype} {list(image.shape)}"
            )
        image = Image.fromarray(image)
    if not isinstance(image, Image.Image):
        raise WrongInput(f"an image is a path, a PIL image or a uint8 array, and not of the type {type(image).__name__}")
    if orientation_of(image) not in UPRIGHT:
        raise WrongInput(
            "this image is rotated by its EXIF orientation; PIL.ImageOps.exif_transpose(image) stores its pixels upright"
        )
    if image.mode not in EIGHT_BIT_MODES or min(image.size) < SMALLEST:
        needed = f"an image must have 8 bits per channel and at least {SMALLEST} pixels a side"
        raise WrongInput(f"{needed}; this one has the mode {image.mode} and {image.width}x{image.height} pixels")
    return np.asarray(image.convert("RGB"))


def scorer_of(run: FinishedRun, device: torch.device, ready: Ready | None = None) -> Scorer:
    """The class scores of a run's segmenter on `device`."""
    stage = run.prediction_stage
    if not stage.recipe.class_scores:
        raise WrongInput(f"{stage.name} of {run.name} gives label maps alone; its recipe names no function for class_scores")
    return resolve(stage.recipe.class_scores)(context_of(run, stage, device, ready))


def context_of(run: FinishedRun, stage: Stage, device: torch.device, ready: Ready | None = None) -> Context:
    """The context of a stage for images other than the run's, with the networks that it reads loaded.

    `ready` prepares a loaded network; by default it is made quick, and computes in the run's precision.
    """
    quick = partial(for_extraction, precision=stage.settings.get("extraction.precision", "float32"), device=device)
    inputs = {word: _input(run, stage, word, device, ready or quick) for word in stage.inputs}
    return Context(settings_of(stage.settings), run.classes, (), (), device, inputs)


def _input(run: FinishedRun, stage: Stage, word: str, where: torch.device, ready: Ready) -> Any:
    """What a stage gets as `word`: a network or a table of the classes. Results of images are refused: other images have none."""
    source = stage.inputs[word]
    folder, _ = run.result(source.name)
    if source.recipe.network:
        return ready(load_network(Input(Result(folder), source.recipe.network, source.settings), run.classes, where))
    if source.recipe.over != "classes":
        raise WrongInput(f"{stage.name} reads the {word} of each image, so it can segment no images but those of the run")
    return stored(folder, source.recipe.read)
