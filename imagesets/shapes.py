"""The built-in image set `shapes`: where it lies, and its drawing when it is first needed.

It is drawn, not shipped: the same settings give the same files, byte for byte, on one machine and library versions.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def make(parent: Path, settings: Mapping[str, Any], draw: bool = True) -> Path | None:
    """The folder under `parent` with these images, drawn first where they are not there yet; None where `draw` forbids that."""
    root = folder(parent, settings)
    if not root.exists():
        if not draw:
            return None
        generate(root, settings)
    return root


def folder(parent: Path, settings: Mapping[str, Any]) -> Path:
    """Where under `parent` the image set with these settings lies: the name tells the settings and the drawing code apart."""
    code = [file.read_bytes() for file in sorted(Path(__file__).with_name("drawing").glob("*.py"))]
    used = json.dumps([settings[name] for name in ("size", "train_images", "val_images", "drawing_seed")]).encode()
    return parent / f"shapes-{hashlib.blake2b(b''.join([used, *code]), digest_size=4).hexdigest()}"


def generate(root: Path, settings: Mapping[str, Any]) -> None:
    """Draw the image set in VOC layout; `root` appears whole or not at all, and is left as it is if it exists.

    `settings`: `size` (side in pixels), `train_images`, `val_images`, `drawing_seed`.
    """
    from imagesets.drawing.scene import write_image_set  # a plan only asks for the folder and must answer at once

    temporary = root.with_name(f".{root.name}.{os.getpid()}")
    try:
        write_image_set(temporary, settings)
        temporary.rename(root)
    except OSError:
        if not root.is_dir():  # else another process has drawn the same files meanwhile
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
