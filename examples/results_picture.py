"""A picture of what a run made: images beside its seeds, pseudo masks, segmentations and the true masks.

RUN is the name of a folder in wsss-store/runs. From the repository root: python examples/results_picture.py RUN picture.png
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from imagesets.image_set import ImageSet
from imagesets.palette import colourise
from imagesets.picture import contact_sheet
from orchestrator import Results

STORE = Path("wsss-store")
ROWS = 4  # images of each list


def main(name: str, output: str, store: Path = STORE) -> None:
    """Write the picture of a run."""
    results = Results.load(name, store)
    run = results.run()
    images = run.images(make=True)
    left = sheet(results, images, "train", {"seed": seed, "pseudo mask": Results.masks})
    right = sheet(results, images, "val", {"segmentation": Results.segmentations})
    Image.fromarray(np.concatenate([left, right], axis=1)).quantize().save(output, optimize=True)


def sheet(results: Results, images: ImageSet, split: str, layers: dict) -> np.ndarray:
    """A row for each of some images of a list, uint8 [H,W,3]: the image, the label maps of `layers` and its true mask."""
    items = images.items(split, with_masks=True)[:: len(images.ids(split)) // ROWS][:ROWS]
    rows = [
        [item.rgb(), *(colourise(layer(results, item.id)) for layer in layers.values()), colourise(item.truth())]
        for item in items
    ]
    captions = [f"{item.id}: {', '.join(images.classes[index] for index in item.labels)}" for item in items]
    return contact_sheet(rows, ["image", *layers, "true mask"], captions, cell=128)


def seed(results: Results, image: str) -> np.ndarray:
    """The seed of an image, uint8 [H,W]: its maps, cut at the threshold at which they were scored."""
    maps = results.maps(image)
    threshold = results.scores[results.scores.quantity == "seed"].threshold.iloc[-1]
    values = [0, *(1 + results.run().classes.index(name) for name in maps)]
    planes = [np.full(next(iter(maps.values())).shape, threshold), *maps.values()]
    return np.array(values, np.uint8)[np.argmax(planes, axis=0)]


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
