"""COCO 2014 (Lin et al., Microsoft COCO, ECCV 2014) and other images with COCO's annotations, once they are prepared.

`imagesets.coco_preparation` makes their lists, labels and masks from the annotations, by a rule.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from imagesets.coco_note import read_note
from imagesets.errors import WrongInput
from imagesets.files import existing
from imagesets.folder import CLASSES, read_classes
from imagesets.image_set import ImageSet
from imagesets.layout import name_of, open_layout

PREPARED = "prepared-"  # the beginning of the names of folders that we write


def prepared_folder(path: str | Path, kind: str, rule: str) -> tuple[Path, Path]:
    """The folder of an image set, and the folder in it for what a rule makes; raises WrongInput if the first does not exist.

    `kind` is coco14 or coco: their classes and lists differ.
    """
    root = existing(path, "hold images and COCO's annotations")
    return root, root / f"{PREPARED}{kind}-{rule}"


def open_coco14(path: str | Path, settings: Mapping[str, Any]) -> ImageSet:
    """Open COCO 2014 at `path` (see `open_coco`)."""
    return open_coco(path, settings, "coco14")


def open_coco(path: str | Path, settings: Mapping[str, Any], kind: str = "coco") -> ImageSet:
    """Open the images at `path` with what the rule `settings["rule"]` has made of them (other `settings` as in `open_layout`).

    Raises WrongInput if that is not all there, or if the annotations have changed since.
    """
    root, folder = prepared_folder(path, kind, settings["rule"])
    command = f"wsss-orch images prepare {kind}:{path} --set images.rule={settings['rule']}"
    note = read_note(folder)
    if note is None or not note.whole:
        raise WrongInput(f"{root} has no lists, labels and masks by the rule {settings['rule']}; this makes them: {command}")
    if changed := note.outdated(root):
        raise WrongInput(f"{root / changed} has changed since {folder.name} was made of it; this makes it anew: {command}")
    found = open_layout(folder, {**settings, "name": name_of(root, settings)}, read_classes(folder / CLASSES))
    return replace(found, image_folders=tuple(str(root / name) for name in note.folders), origin=note.origin)
