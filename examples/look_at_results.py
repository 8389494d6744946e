"""Two methods over two random seeds: scores as data frames, maps and pseudo masks of one image as arrays and as a picture.

Run from anywhere: python examples/look_at_results.py. It draws its images itself; about ten minutes on two cores, and at once
the second time, because the store has the results.
"""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from imagesets.overlay import overlay
from imagesets.palette import colourise
from imagesets.picture import contact_sheet
from orchestrator import Results, launch

QUICK = {"images.train_images": 160, "images.val_images": 20}


def main(picture: Path = Path("maps_and_masks.png"), images: str = "shapes", **options: Any) -> None:
    """Print the scores of both methods and write a picture of one image's maps and masks."""
    options = {"settings": QUICK, "engine": "local", "track": "none", "random_seeds": [0, 1], **options}
    found = {method: launch(method, images, quiet=True, **options) for method in ("cam+none", "lpcam+none")}
    for method, results in found.items():
        print(f"\n{method}, mean and standard deviation of the mIoU over {len(results.names)} runs")
        print(results.scores.groupby(["quantity", "of", "split"], sort=False).miou.agg(["mean", "std"]))
    seeds = [results.per_class.query("quantity == 'seed'").groupby("class", sort=False).iou.mean() for results in found.values()]
    print("\nIoU of the seeds by class, second method minus first")
    print((seeds[1] - seeds[0]).round(3).to_string())
    print("\nthe first score's protocol:", found["cam+none"].scores.protocol[0])

    image = next(iter(found["cam+none"].ids("maps")))
    rows = [_row(results, image) for results in found.values()]
    Image.fromarray(contact_sheet(rows, ["image", "highest map", "pseudo mask", "over the image"], list(found))).save(picture)


def _row(results: Results, image: str) -> list[np.ndarray]:
    """The image, the highest of its maps in grey, and its pseudo mask."""
    rgb, mask = results.image(image), results.masks(image)
    highest = np.max([np.zeros(mask.shape), *results.maps(image).values()], axis=0)
    grey = np.repeat((255 * highest.clip(0, 1)).astype(np.uint8)[..., None], 3, axis=2)
    return [rgb, grey, colourise(mask), overlay(rgb, mask)]


if __name__ == "__main__":
    main()
