"""The results of finished runs in Python: scores as a data frame, maps and label maps of single images as arrays."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from imagesets.deep_image import read_rgb
from imagesets.errors import WrongInput
from imagesets.image_set import ImageSet
from orchestrator.afterwards.bundle import write_bundle
from orchestrator.afterwards.model_export import FILES, Size, export_model
from orchestrator.afterwards.segmenter import Segmenter
from orchestrator.engine.context import stored
from orchestrator.planning import scores
from orchestrator.planning.nearest import nearest
from orchestrator.reading.groups import Runs, find_run
from orchestrator.reading.results import subjects
from orchestrator.reading.runs import FinishedRun, open_run
from orchestrator.storage.place import STORE

if TYPE_CHECKING:
    from pandas import DataFrame

OF = {"maps": "maps", "masks": "masks", "segmentations": "predictions"}  # what there is of each image, and the word of a stage

PLACE = ("quantity", "of", "split", "random_seed")  # of a score, as columns


class Results:
    """The runs of a launch, one for each random seed.

        results = Results.load("lpcam+amn")
        results.scores                       # a row for each score, with its protocol
        results.maps("2007_000032")          # {"aeroplane": float32 [H,W], ...}
        results.masks("2007_000032")         # the pseudo mask, uint8 [H,W]

    Where there are several runs, `random_seed` says which one is meant; without it, that is the first.
    """

    def __init__(self, runs: Sequence[FinishedRun]):
        self.runs = tuple(runs)

    @classmethod
    def load(cls, name: str, store: str | Path = STORE) -> "Results":
        """The run called `name`, all runs of that launch, or those of a method expression's newest launch. Raises WrongInput."""
        root = Path(store).expanduser().resolve()
        first = find_run(root, name)
        alone = first.name == name
        return cls([first] if alone else [open_run(root, run["run"]) for run in Runs(root).group(name).runs])

    @property
    def names(self) -> list[str]:
        """The names of the runs, as `wsss-orch export` and `predict` take them."""
        return [run.name for run in self.runs]

    @cached_property
    def scores(self) -> "DataFrame":
        """A row for each score of each run: what is scored, on which list, the metrics as fractions, and the protocol."""
        columns = [*PLACE, *scores.metrics(scores.quantities()), "threshold", "oracle", "run", "protocol"]
        return _frame((_score(run, row, of) for run, row, of in self._rows()), columns)

    @cached_property
    def per_class(self) -> "DataFrame":
        """A row for each score, run and class."""
        rows = (
            {**_place(run, row, of), "class": name, **values}
            for run, row, of in self._rows()
            for name, values in row.get("per_class", {}).items()
        )
        return _frame(rows, [*PLACE, "class", *scores.class_metrics(scores.quantities())])

    def ids(self, of: str = "maps", random_seed: int | None = None) -> list[str]:
        """The images of which there are maps, masks or segmentations."""
        return list(self._records(of, random_seed))

    def maps(self, image: str, random_seed: int | None = None) -> dict[str, np.ndarray]:
        """The maps of an image (its seeds before the threshold): float32 [H,W] for each class of its labels, by name."""
        maps = self._record("maps", image, random_seed)
        classes = self.run(random_seed).classes
        return {classes[key]: plane for key, plane in zip(maps.keys, maps.full().numpy(), strict=True)}

    def masks(self, image: str, random_seed: int | None = None) -> np.ndarray:
        """The pseudo mask of an image of the training list, uint8 [H,W]: 0 background, 1 the first class, 255 void."""
        return self._record("masks", image, random_seed)["label"]

    def segmentations(self, image: str, random_seed: int | None = None) -> np.ndarray:
        """The trained segmenter's label map of an image of the validation list, uint8 [H,W]."""
        return self._record("segmentations", image, random_seed)["label"]

    def image(self, image: str) -> np.ndarray:
        """An image of the run's image set by its id, uint8 [H,W,3]. Raises WrongInput if the images are not here any more."""
        found = self._images.images().paths
        if image not in found:
            raise WrongInput(f"{self._images.name} has no image {image!r}{nearest(image, found, see='results.ids()')}")
        return read_rgb(Path(found[image]), self._images.range)

    def segmenter(self, random_seed: int | None = None, device: str = "auto", threads: int | None = None) -> Segmenter:
        """The trained segmenter, for other images; see `Segmenter.load`."""
        return Segmenter(self.run(random_seed), device, threads)

    def bundle(self, target: str | Path, random_seed: int | None = None) -> Path:
        """Write the run as one file, NAME.zip, that `Segmenter.load` reads without a store; returns its path."""
        path = Path(target).expanduser()
        write_bundle(self.run(random_seed), path)
        return path

    def model(self, target: str | Path, form: str = "onnx", size: Size | None = None, random_seed: int | None = None) -> Path:
        """Write the segmenter as a file for other programs (onnx or torchscript) into a new folder; returns the file's path.

        With `size` (height, width) it takes images of that size alone.
        """
        folder = Path(target).expanduser()
        for note in export_model(self.run(random_seed), folder, form, size):
            warnings.warn(note, stacklevel=2)
        return folder / FILES[form]

    def run(self, random_seed: int | None = None) -> FinishedRun:
        """The run of a random seed; the first without one."""
        by_seed = {run.results["random_seed"]: run for run in self.runs}
        if not by_seed:
            raise WrongInput("this launch has finished no run: it was a plan, or it ended before the results")
        if random_seed is not None and random_seed not in by_seed:
            raise WrongInput(f"there is no run of random seed {random_seed}; there are {', '.join(map(str, by_seed))}")
        return self.runs[0] if random_seed is None else by_seed[random_seed]

    @cached_property
    def _images(self) -> ImageSet:
        """The image set of the runs."""
        return self.run().images(make=False)

    def _rows(self) -> Any:
        """Each run with each of its scores, and what that is a score of."""
        for run in self.runs:
            rows = run.results["rows"]
            yield from ((run, row, of) for row, of in zip(rows, subjects(rows), strict=True))

    def _records(self, of: str, random_seed: int | None) -> Mapping[str, Any]:
        if of not in OF:
            raise WrongInput(f"there are {', '.join(OF)} of images, and no {of}")
        run = self.run(random_seed)
        stage, _ = run.made(scores.of_word(OF[of]))
        return stored(run.result(stage.name)[0], stage.recipe.read)

    def _record(self, of: str, image: str, random_seed: int | None) -> Any:
        records = self._records(of, random_seed)
        try:
            return records[image]
        except KeyError:
            told = nearest(image, records, see=f"results.ids({of!r})")
            raise WrongInput(f"{self.run(random_seed).name} has no {of} of an image {image!r}{told}") from None

    def _repr_html_(self) -> str:
        return self.scores.drop(columns="protocol", errors="ignore").to_html()

    def __repr__(self) -> str:
        return f"Results({', '.join(self.names)})"


def _place(run: FinishedRun, row: Mapping[str, Any], of: str) -> dict[str, Any]:
    """What a row is a score of."""
    return {"quantity": row["quantity"], "of": of, "split": row["split"], "random_seed": run.results["random_seed"]}


def _score(run: FinishedRun, row: Mapping[str, Any], of: str) -> dict[str, Any]:
    oracle = row.get("oracle", {})
    return {
        **_place(run, row, of),
        **row["metrics"],
        "threshold": row["protocol"].get("threshold"),
        "oracle": oracle.get(scores.main(row["quantity"])),
        "run": run.name,
        "protocol": row["protocol"],
    }


def _frame(rows: Iterable[dict[str, Any]], columns: Sequence[str]) -> "DataFrame":
    """The rows as a data frame, which has `columns` if there are no rows."""
    from pandas import DataFrame  # a second of imports that arrays do without

    found = list(rows)
    return DataFrame(found) if found else DataFrame(columns=columns)
