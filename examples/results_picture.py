"""A picture of what a run made: images beside its seeds, pseudo masks, segmentations and the true masks.

RUN is the name of a folder in wsss-store/runs. From the repository root: python examples/results_picture.py RUN picture.png
"""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from imagesets.image_set import ImageSet
from imagesets.palette import colourise
from imagesets.picture import contact_sheet
from maps.maps import Maps
from orchestrator.engine.context import stored
from orchestrator.planning.images import open_images
from orchestrator.reading.runs import FinishedRun, open_run
from refiners.threshold import label_map

STORE = Path("wsss-store")
ROWS = 4  # images of each list
LISTS = {"train": {"seed": "seed", "pseudo": "pseudo mask"}, "val": {"seg": "segmentation"}}  # what is shown of each list


def main(name: str, output: str, store: Path = STORE) -> None:
    """Write the picture of a run."""
    run = open_run(store, name)
    settings = {key: value for key, value in run.results["settings"].items() if key.startswith("images.")}
    images = open_images(run.command["images"], settings, store, make=True)
    assert images is not None  # missing images are made
    sheets = [sheet(run, images, split, shown) for split, shown in LISTS.items()]
    Image.fromarray(np.concatenate(sheets, axis=1)).quantize().save(output, optimize=True)


def sheet(run: FinishedRun, images: ImageSet, split: str, shown: dict[str, str]) -> np.ndarray:
    """A row for each of some images of a list, uint8 [H,W,3]: the image, its results and its true mask."""
    items = images.items(split, with_masks=True)[:: len(images.ids(split)) // ROWS][:ROWS]
    layers = [results(run, quantity) for quantity in shown]
    rows = [[item.rgb(), *(colourise(layer(item.id)) for layer in layers), colourise(item.truth())] for item in items]
    captions = [f"{item.id}: {', '.join(images.classes[index] for index in item.labels)}" for item in items]
    return contact_sheet(rows, ["image", *shown.values(), "true mask"], captions, cell=128)


def results(run: FinishedRun, quantity: str) -> Callable[[str], np.ndarray]:
    """A function from an image id to the label map uint8 [H,W] that the run made of the image."""
    stage, row = run.made(quantity)
    folder, _ = run.result(stage.name)
    records = stored(folder, stage.recipe.read)
    assert row is not None  # lists with masks are scored
    threshold = row["protocol"].get("threshold", 0.0)

    def of_image(id: str) -> np.ndarray:
        record = records[id]
        return label_map(record.full(), record.keys, threshold) if isinstance(record, Maps) else record["label"]

    return of_image


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
