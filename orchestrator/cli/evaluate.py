"""`wsss-orch evaluate`: scores of a folder of label maps, whoever made them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from imagesets.errors import WrongInput
from imagesets.image_set import ImageSet
from imagesets.item import Item, read_label_map
from orchestrator.cli import options, paths
from orchestrator.planning.launch import images_alone
from orchestrator.reading.tables import table, terminal
from orchestrator.storage.store import write_json

SCORES = {"iou": "IoU", "precision": "precision", "recall": "recall", "fp": "FP", "fn": "FN"}


def evaluate(
    masks: Annotated[Path, paths.option(help="Folder of index PNGs named <image id>.png: pseudo masks or predictions.")],
    images: Annotated[str, typer.Option(help="shapes, voc12:PATH or folder:PATH.")],
    list_name: Annotated[str, typer.Option("--list", help="Image list; every image of it must have a PNG.")] = "val",
    assign: Annotated[list[str], typer.Option("--set", help="key=value, such as evaluation.miou=truth; may be repeated.")] = [],  # noqa: B006 (typer's way)
    store: options.ImagesRoot = options.STORE,
    json_file: Annotated[Path | None, paths.option("--json", help="Write the scores to this file as well.")] = None,
) -> None:
    """Score label maps on the masks of a list: mIoU, and IoU, precision, recall, FP and FN of each class.

    Examples:

      wsss-orch evaluate --masks predictions --images voc12:PATH --list val

      wsss-orch evaluate --masks pseudo_masks --images voc12:PATH --list train --json scores.json
    """
    opened, settings = images_alone(images, assign, store.resolve())
    result = score(masks, opened, list_name, settings["evaluation.miou"])
    console, protocol = terminal(), result["protocol"]
    over = f"over the classes of convention {protocol['miou']!r}; {protocol['void']}"
    console.print(
        f"mIoU {_percent(result['metrics']['miou'])} % on {protocol['images']} images of {list_name}, {over}", markup=False
    )
    console.print(_table(result))
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        write_json(json_file, result)


def score(masks: Path, images: ImageSet, list_name: str, miou: str) -> dict[str, Any]:
    """Metrics, per-class scores and protocol of the PNGs in `masks`, as a run's evaluation has them.

    `miou` is the convention of the mean. Raises WrongInput for a missing, coloured, wrongly sized or out-of-range PNG.
    """
    from segmentation.evaluation import label_result
    from training.stage import Settings

    items = images.items(list_name, with_masks=True)
    _require(masks, items)
    arrays: dict[str, Any] = {}
    for item in items:
        for name, array in _record(item, masks / f"{item.id}.png", len(images.classes)).items():
            arrays[name] = arrays.get(name, 0) + array
    result = label_result(Settings({"miou": miou}), images.classes, arrays)
    result["protocol"] |= {"images from": images.name, "split": list_name, "images": len(items)}
    return result


def _require(masks: Path, items: Sequence[Item]) -> None:
    if not masks.is_dir():
        raise WrongInput(f"--masks {masks}: there is no such folder")
    there = {path.stem for path in masks.glob("*.png")}
    if not items:
        raise WrongInput("the list is empty; there is nothing to score")
    if missing := [item.id for item in items if item.id not in there]:
        raise WrongInput(f"{len(missing)} of {len(items)} images have no PNG in {masks}; the first would be {missing[0]}.png")


def _record(item: Item, path: Path, classes: int) -> dict[str, Any]:
    """The record of one PNG; what is wrong with it is said with its path."""
    from segmentation.evaluation import label_record

    try:
        return label_record(item, read_label_map(path), classes)
    except (WrongInput, OSError) as error:
        raise WrongInput(f"{path} cannot be scored: {error}") from error


def _table(result: dict[str, Any]) -> Table:
    made = table("in percent", *(f">{name}" for name in SCORES.values()))
    for label, row in result["per_class"].items():
        made.add_row(label, *(_percent(row[name]) for name in SCORES))
    return made


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"
