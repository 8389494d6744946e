"""`wsss-orch evaluate`: scores of a folder of label maps from any source."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from imagesets.errors import WrongInput, refuse
from imagesets.files import by_id
from imagesets.image_set import MASK_SUFFIXES, ImageSet
from imagesets.item import Item, read_label_map
from orchestrator.cli import options, paths
from orchestrator.planning import scores
from orchestrator.planning.images import images_alone, unread_alone
from orchestrator.planning.keeping import evaluations
from orchestrator.planning.recipe import StageRecipe
from orchestrator.planning.stage import Stage
from orchestrator.reading.numbers import in_words, told
from orchestrator.reading.results import merged
from orchestrator.reading.tables import table, terminal, warn
from orchestrator.storage.store import write_json


def evaluate(
    masks: Annotated[Path, paths.option(help="Folder of index PNGs named <image id>.png: pseudo masks or predictions.")],
    images: Annotated[str, typer.Option(help="An image set, such as shapes, voc12:PATH or folder:PATH.")],
    what: Annotated[str, typer.Option(help="What the label maps are: pseudo or seg (the default).")] = "",
    list_name: Annotated[str, typer.Option("--list", help="Image list; every image of it must have a PNG.")] = "val",
    assign: Annotated[list[str], typer.Option("--set", help="key=value, such as evaluation.miou=truth; may be repeated.")] = [],
    store: options.ImagesRoot = options.STORE,
    json_file: Annotated[
        Path | None, paths.option("--json", parser=paths.file, help="Also write the scores to this file.")
    ] = None,
) -> None:
    """Score a folder of label maps. The scores are those of `launch`: over the whole list and for each class.

    Examples:

      wsss-orch evaluate --masks predictions --images voc12:PATH --list val

      wsss-orch evaluate --masks pseudo_masks --images voc12:PATH --list train --json scores.json
    """
    quantity = what or scores.of_word("predictions")
    opened, settings = images_alone(images, assign, store.resolve())
    console = terminal()
    warn(console, unread_alone(assign, ["images", "extraction", *(recipe.name for recipe in scores.recipes())]))
    result = score(masks, opened, list_name, quantity, settings)
    protocol = result["protocol"]
    found = {name: metric for name, metric in scores.metrics([quantity]).items() if name in result["metrics"]}
    main, *others = (in_words(result["metrics"][name], metric) for name, metric in found.items())
    measured = "; ".join(f"{name}: {value}" for name, value in protocol.items() if name not in ("split", "images"))
    console.print(f"{main} on {protocol['images']} images of {list_name} ({measured})")
    console.print(", ".join(others))
    if result.get("per_class"):
        console.print(_table(result, quantity))
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        write_json(json_file, result)


def score(masks: Path, images: ImageSet, list_name: str, quantity: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Metrics, per-class scores and protocol of the PNGs in `masks`, as in a run's scores of `quantity`.

    Raises WrongInput for a missing, coloured, wrongly sized or out-of-range PNG.
    """
    if quantity not in scores.label_maps():
        raise WrongInput(f"--what {quantity} is neither {' nor '.join(scores.label_maps())}")
    items = images.items(list_name, with_masks=True)
    files = _files(masks, items, len(images.classes))
    # the folder of label maps counts as a stage that another program has made, and the list is the only list
    source = Stage(masks.name, "", masks.name, StageRecipe(name=masks.name, scored=quantity), list_name, {}, {}, {})
    lists = {"images.scoring": [list_name], "images.validation": [list_name], "images.selection": ""}
    result: dict[str, Any] = {}
    for stage in evaluations(source, {**settings, **lists}):
        result = merged(result, _evaluated(stage, files, items, images.classes))
    made = {"made by rule": images.origin} if images.origin else {}
    result["protocol"] |= {"images from": images.name, "split": list_name, "images": len(items), **made}
    return result


def _evaluated(stage: Stage, files: Mapping[str, str], items: Sequence[Item], classes: tuple[str, ...]) -> dict[str, Any]:
    """The result of one evaluation stage on the label maps in `files`, which are by image id."""
    import torch

    from orchestrator.engine.context import settings_of
    from orchestrator.engine.shard_work import add
    from orchestrator.planning.references import resolve
    from training.stage import Context

    settings, recipe = settings_of(stage.settings), stage.recipe
    inputs = {word: LabelMaps(files) for word in stage.inputs}
    one = resolve(recipe.call)(Context(settings, classes, items, (0, stage.purpose), torch.device("cpu"), inputs))
    total: dict[str, Any] = {}
    for item in items:
        try:
            record = one(item)
        except (WrongInput, OSError) as error:
            raise WrongInput(f"{files[item.id]} cannot be scored: {error}") from error
        add(total, {name: array for name, array in record.items() if name not in recipe.keeps})
    return resolve(recipe.result)(settings, classes, total)


@dataclass(frozen=True)
class LabelMaps(Mapping):
    """Index PNGs by image id, in the form of a stage's records."""

    files: Mapping[str, str]

    def __getitem__(self, image: str) -> dict[str, Any]:
        return {"label": read_label_map(Path(self.files[image]))}

    def __iter__(self) -> Iterator[str]:
        return iter(self.files)

    def __len__(self) -> int:
        return len(self.files)


def _files(masks: Path, items: Sequence[Item], classes: int) -> dict[str, str]:
    """The PNG of every image by id; all are read before any is scored. Raises WrongInput with all problems."""
    from imagesets.file_check import label_problems  # loads NumPy
    from imagesets.file_per_image import folder_problems

    def look(path: Path, item: Item) -> list[str]:
        return label_problems(path, read_label_map(path), item.image, classes)

    if not masks.is_dir():
        raise WrongInput(f"--masks {masks}: there is no such folder")
    if not items:
        raise WrongInput("the list is empty; there is nothing to score")
    refuse(folder_problems(masks, items, MASK_SUFFIXES, look), f"--masks {masks}", ", nothing was scored")
    return by_id(masks, MASK_SUFFIXES).paths


def _table(result: Mapping[str, Any], quantity: str) -> Table:
    known = scores.class_metrics([quantity])
    made = table("in percent", *(f">{title}" for title, _ in known.values()))
    for label, row in result["per_class"].items():
        made.add_row(label, *(told(row.get(name), metric) for name, (_, metric) in known.items()))
    return made
