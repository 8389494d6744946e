"""Hand a trained segmenter on: as a bundle for a colleague, as an ONNX file for another program, as the start of another run.

Run from anywhere: python examples/share_a_segmenter.py. It draws its images itself; about five minutes on two cores. The ONNX
file needs two further packages: pip install onnx onnxruntime.
"""

from pathlib import Path
from typing import Any

import numpy as np

from orchestrator import Segmenter, launch

QUICK = {"images.train_images": 160, "images.val_images": 20}


def main(folder: Path = Path("shared_segmenter"), images: str = "shapes", **options: Any) -> None:
    """Write `folder` with a bundle and a model, and check that both segment as the run does."""
    options = {"settings": QUICK, "engine": "local", "track": "none", **options}
    results = launch("cam+none", images, quiet=True, **options)
    photograph = results.image(results.ids("segmentations")[0])
    expected = results.segmenter().predict(photograph)

    folder.mkdir()
    bundle = results.bundle(folder / "segmenter.zip")  # as `wsss-orch export RUN --what bundle --to segmenter.zip`
    colleague = Segmenter.load(bundle)
    print(f"{bundle.name} of {bundle.stat().st_size / 1e6:.1f} MB: {colleague}")
    assert np.array_equal(colleague.predict(photograph), expected)

    import onnxruntime  # here, so that the bundle needs no further package

    model = results.model(folder / "model", "onnx")  # as `wsss-orch export RUN --what model --to model`
    label, scores = onnxruntime.InferenceSession(str(model)).run(None, {"image": photograph})
    print(
        f"{model.name}: label map {label.shape}, scores {scores.shape}; {(label == expected).mean():.2%} of the pixels as the run"
    )

    again = launch("lpcam+none", images, quiet=True, network_from=bundle, **options)  # cam is not trained again
    print(again.scores[["quantity", "of", "split", "miou"]].to_string(index=False))
    print(again.scores.protocol[0]["imported network"])


if __name__ == "__main__":
    main()
