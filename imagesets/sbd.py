"""VOC's augmented training list, from the Semantic Boundaries Dataset (Hariharan et al., ICCV 2011).

The list is VOC's train and all of SBD except VOC's val: 10,582 images. VOC's own masks are used if they exist, as in the usual
folder SegmentationClassAug; SBD's masks have no void border.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from imagesets.errors import WrongInput, named
from imagesets.files import absolute, replacing
from imagesets.image_set import AUGMENTED, LISTS, MASKS
from imagesets.layout import find_root
from imagesets.lists import read_list, write_lines
from imagesets.palette import save_label_map
from imagesets.voc12 import CLASSES, FOLDER

LIST = "train_aug"


def prepare_voc12(path: str, settings: Mapping[str, Any], spread: object = None, show: object = None) -> list[str]:
    """Make `train_aug` from the folder `settings["sbd"]`; returns a sentence on it."""
    if not settings["sbd"]:
        raise WrongInput(
            f"voc12:PATH gets its list {LIST} from the Semantic Boundaries Dataset; name it: --sbd benchmark_RELEASE"
        )
    listed, written = prepare(path, settings["sbd"])
    return [f"{LIST}: {listed} images; {written} masks written to {AUGMENTED}"]


def prepare(voc: str, sbd: Path) -> tuple[int, int]:
    """Write SBD's masks for images that VOC has no mask of, then the list `train_aug`; returns counts of images and masks.

    `voc` is VOCdevkit/VOC2012 or its parent, `sbd` the folder `dataset` of the benchmark or its parent. Files of an earlier
    call are kept, so a stopped call can go on. Raises WrongInput if a folder is incomplete or `voc` has another `train_aug`.
    """
    root, dataset = find_root(voc, FOLDER), _dataset(sbd)
    ids = augmented(root, dataset)
    _require("VOC's train", root / MASKS, read_list(root / LISTS / "train.txt"), ".png")
    there = {path.stem for folder in (MASKS, AUGMENTED) for path in (root / folder).glob("*.png")}
    wanted = [id for id in ids if id not in there]
    _require("SBD", dataset / "cls", wanted, ".mat")
    path = root / LISTS / f"{LIST}.txt"
    if path.is_file() and set(read_list(path)) != set(ids):
        raise WrongInput(
            f"{path} is there already, with other images than VOC's train and SBD without VOC's val; move it away first"
        )
    (root / AUGMENTED).mkdir(exist_ok=True)
    for id in wanted:
        save_label_map(root / AUGMENTED / f"{id}.png", read_mask(dataset / "cls" / f"{id}.mat"))
    if not path.is_file():
        with replacing(path) as partial:  # written last: if the list exists, all masks exist
            write_lines(partial, ids)
    return len(ids), len(wanted)


def augmented(root: Path, dataset: Path) -> list[str]:
    """The ids of VOC's train and of SBD without VOC's val, in order."""
    train, val = (set(_listed(root / LISTS / f"{name}.txt")) for name in ("train", "val"))
    both = set(_listed(dataset / "train.txt")) | set(_listed(dataset / "val.txt"))
    return sorted((train | both) - val)


def read_mask(path: Path) -> np.ndarray:
    """The uint8 [H,W] label map of one of SBD's class files; raises WrongInput if it is not one."""
    from scipy.io import loadmat

    try:
        label = loadmat(path)["GTcls"]["Segmentation"][0, 0]
        whole = label.ndim == 2 and label.min() >= 0 and label.max() <= len(CLASSES)
    except Exception as error:  # a damaged file can raise any error
        raise WrongInput(f"{path} is not a class file of SBD ({error})") from error
    if not whole:
        raise WrongInput(f"{path} holds no label map of VOC's {len(CLASSES)} classes")
    return label.astype(np.uint8)


def _dataset(path: Path) -> Path:
    start = absolute(path)
    for folder in (start, start / "dataset", start / "benchmark_RELEASE" / "dataset"):
        if (folder / "cls").is_dir():
            return folder
    raise WrongInput(
        f"{start} is not SBD; it needs the folder cls and the lists train.txt and val.txt, as in benchmark_RELEASE/dataset"
    )


def _listed(path: Path) -> tuple[str, ...]:
    if not path.is_file():
        raise WrongInput(f"{path} is missing; the list {LIST} is made from VOC's train and val and from SBD's")
    return read_list(path)


def _require(whose: str, folder: Path, ids: Iterable[str], suffix: str) -> None:
    missing = [id for id in ids if not (folder / f"{id}{suffix}").is_file()]
    if missing:
        raise WrongInput(f"{folder} lacks {len(missing)} masks of {whose}: {named(missing, 5)}")
