"""The built-in image set `shapes`: synthetic images, generated at first use.

They are not shipped. The same settings give the same bytes on one machine with the same library versions.
"""

import hashlib
import json
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def make(parent: Path, settings: Mapping[str, Any], draw: bool = True) -> Path | None:
    """The folder under `parent` with these images. Missing images are drawn first; without `draw` the result is then None."""
    root = folder(parent, settings)
    if not root.exists():
        if not draw:
            return None
        generate(root, settings)
    return root


def folder(parent: Path, settings: Mapping[str, Any]) -> Path:
    """The folder under `parent` for these settings; its name differs for other settings and for other drawing code."""
    code = [file.read_bytes() for file in sorted(Path(__file__).with_name("drawing").glob("*.py"))]
    used = json.dumps([settings[name] for name in ("size", "train_images", "val_images", "drawing_seed")]).encode()
    return parent / f"shapes-{hashlib.blake2b(b''.join([used, *code]), digest_size=4).hexdigest()}"


def generate(root: Path, settings: Mapping[str, Any]) -> None:
    """Draw the image set in VOC layout; `root` appears whole or not at all, and an existing one is not changed.

    `settings`: `size` (side in pixels), `train_images`, `val_images`, `drawing_seed`.
    """
    from imagesets.drawing.scene import write_image_set  # imported here: a plan only asks for the folder and must answer at once

    temporary = root.with_name(f".{root.name}.{secrets.token_hex(8)}")  # a process of another container can have our number
    try:
        write_image_set(temporary, settings)
        temporary.rename(root)
    except OSError:
        if not root.is_dir():  # otherwise another process has drawn the same files
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
