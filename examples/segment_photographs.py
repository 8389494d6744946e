"""Train a segmenter from image-level labels, then segment other images with it: labels, class scores, overlays, windows.

Run from anywhere: python examples/segment_photographs.py. It draws its images itself; about three minutes on two cores.
For your own photographs, give `launch` images="folder:PATH" and recipe="laptop" (docs/images.md).
"""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from imagesets.overlay import legend
from orchestrator import launch

QUICK = {"images.train_images": 160, "images.val_images": 20}


def main(folder: Path = Path("segmented"), images: str = "shapes", **options: Any) -> None:
    """Write the segmentations of three images to `folder`."""
    results = launch("cam+none", images, **{"settings": QUICK, "engine": "local", "track": "none", **options})
    print(results.scores[["quantity", "of", "split", "miou"]].to_string(index=False))

    segmenter = results.segmenter()  # Segmenter.load("cam+none") finds it again, also in another program
    print(segmenter)
    folder.mkdir(exist_ok=True)
    legend(["background", *segmenter.classes]).save(folder / "legend.png")
    for id in results.ids("segmentations")[:3]:
        photograph = results.image(id)  # an array; a path or a PIL image will do as well
        scores = segmenter.probabilities(photograph)
        label = scores.argmax(axis=0).astype(np.uint8)
        unsure = np.sort(scores, axis=0)[-1] < 0.5
        shares = {
            name: f"{(label == value).mean():.0%}" for value, name in enumerate(segmenter.classes, 1) if (label == value).any()
        }
        print(f"{id}: {shares or 'background alone'}; no class has half of the score on {unsure.mean():.0%} of the pixels")
        segmenter.overlay(photograph, label).save(folder / f"{id}.png")

    mosaic = np.tile(results.image(results.ids("segmentations")[0]), (4, 4, 1))
    Image.fromarray(mosaic).save(folder / "large.png")
    label = segmenter.predict(folder / "large.png", tile=256)  # for images that do not fit into memory at once
    segmenter.overlay(mosaic, label).save(folder / "large_segmented.png")


if __name__ == "__main__":
    main()
