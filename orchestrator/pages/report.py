"""The report of a finished run: one HTML page that needs no network and no other file.

This module decides what is shown; report.html.j2 has the layout.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

from imagesets.errors import WrongInput
from orchestrator.pages import figures
from orchestrator.pages.confusion import matrices
from orchestrator.pages.page import write
from orchestrator.pages.regions import regions
from orchestrator.pages.samples import Layer, sheet
from orchestrator.planning import scores
from orchestrator.planning.planned_stage import PlannedStage
from orchestrator.planning.prepared import Prepared
from orchestrator.planning.published import figures_of, published
from orchestrator.planning.recipe import AUTO
from orchestrator.planning.references import resolve
from orchestrator.planning.score_recipe import Details
from orchestrator.reading.by_image import scores_of_images
from orchestrator.reading.numbers import told_figures
from orchestrator.reading.protocol import THRESHOLD_BY
from orchestrator.reading.results import cost_unit, entry, subjects, total, used_settings
from orchestrator.storage.place import HISTORY
from orchestrator.storage.store import Store, read_json, read_manifest, seconds

SAMPLES = 12  # images that are shown of each list


def write_report(prepared: Prepared, results: Mapping[str, Any], folder: Path) -> Path:
    """Write `<folder>/report.html` for a finished plan and its `results` (see `orchestrator.reading`); returns its path."""
    steps = [step for step in prepared.steps if step.manifest is not None]
    rows = [_row(row, subject, results) for row, subject in zip(results["rows"], subjects(results["rows"]), strict=True)]
    known, classes = dict.fromkeys(row["quantity"] for row in rows), results["classes"]
    stages = [_stage(step) for step in steps]
    path = folder / "report.html"
    write(
        path,
        "report.html.j2",
        results=results,
        metrics=scores.metrics(known, "pages"),
        details=list(_details(rows)),
        unit=list(cost_unit()),
        finished=datetime.fromtimestamp(results["finished"], UTC),
        rows=rows,
        unscored=prepared.unscored,
        shared=_shared([row["protocol"] for row in rows]),
        last=_last(rows),
        classes=_of_classes(_last(rows)),
        stages=stages,
        total={clock: total(stage[clock] for stage in stages) for clock in ("wall", "cpu")},
        curves=[{**row, "figure": figures.threshold_curve(row, row["name"])} for row in rows if "curve" in row],
        losses=[(step.stage.name, figures.losses(history, step.stage.name)) for step, history in _histories(steps)],
        regions=[
            (step.stage.component, shown, regions(step, resolve(shown.call), classes))
            for step in steps
            if (shown := step.stage.recipe.regions)
        ],
        matrices=matrices(((f"{row['name']} on {row['split']}", [row], classes) for row in rows), prepared.planner.store),
        sheets=_sheets(prepared, rows, results["unscored"]),
        settings=_groups(used_settings(results)),
        versions=_newest(steps).get("versions", {}),
        commit=_newest(steps).get("commit", ""),
    )
    return path


def title(quantity: str) -> str:
    """A quantity in the middle of a sentence."""
    return scores.quantities()[quantity].title.lower()


def _row(row: Mapping[str, Any], subject: str, results: Mapping[str, Any]) -> dict[str, Any]:
    """A row of results with its name and its published figures."""
    recipe, chain = results["images_recipe"], (row["components"], results["segmenter"])
    return {
        **row,
        "of": subject,
        "name": f"{title(row['quantity'])} ({subject})",
        "published": told_figures(figures_of(recipe, row["quantity"], row["split"], *chain), row["quantity"]),
        "published_cost": published(recipe, "cost.units", *chain),
    }


def _last(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The last row of each quantity on each list: the final results."""
    return list({(row["quantity"], row["split"]): row for row in rows}.values())


def _details(rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[Details, list[Mapping[str, Any]]]]:
    """The further tables that scores declare, each with the rows that have something of it."""
    for table in (table for recipe in scores.recipes() for table in recipe.details):
        if own := [row for row in rows if any(entry(row, path) is not None for path in table.columns)]:
            yield table, own


def _of_classes(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """The rows with scores of classes, by the title of these scores."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if "per_class" in row:
            found.setdefault(scores.class_title(row["quantity"]), []).append(row)
    return found


def _shared(protocols: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The common entries of all rows, which are shown once."""
    first = protocols[0] if protocols else {}
    return {name: value for name, value in first.items() if all(protocol.get(name) == value for protocol in protocols)}


def _stage(step: PlannedStage) -> dict[str, Any]:
    assert step.manifest is not None
    return {
        "name": step.stage.name,
        "kind": step.stage.recipe.kind,
        "over": step.stage.recipe.over,
        "images": step.manifest["items"],  # those of its times; the result may be over a wider list
        "reads": [source.stage.name for source in step.inputs.values()],
        "cached": not step.reason,  # the reason why the stage was made
        **{name: step.manifest[name] for name in ("device", "engine")},
        **{clock: seconds(step.manifest, clock) for clock in ("wall", "cpu")},
        "memory": step.manifest.get("memory"),  # unknown for stages that were made before it was measured
    }


def _histories(steps: Sequence[PlannedStage]) -> list[tuple[PlannedStage, list[dict[str, float]]]]:
    """The trainings with their losses per epoch."""
    histories: list[Any] = [read_json(step.folder / HISTORY) for step in steps]
    return [(step, history) for step, history in zip(steps, histories, strict=True) if history]


def _sheets(prepared: Prepared, rows: Sequence[Mapping[str, Any]], unscored: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Samples of every list with a score whose results can be drawn, and of the lists without masks."""
    named = [(row, row["name"]) for row in rows if scores.drawable(row["quantity"])]
    named += [(row, f"{title(row['quantity'])} ({row['component']}){chosen(row)}") for row in unscored]
    layers: dict[str, list[Layer]] = {}
    for row, name in named:
        layers.setdefault(row["split"], []).append(layer_of(prepared.planner.store, row, name, prepared.images.classes))
    return [
        sheet(
            split,
            prepared.planner.items(split, with_masks=prepared.images.has_masks(split)),
            of_split,
            prepared.images.classes,
            SAMPLES,
        )
        for split, of_split in layers.items()
    ]


def chosen(row: Mapping[str, Any]) -> str:
    """The threshold of maps that were not scored, if the run has chosen it, as the end of a title."""
    return f" above {row['protocol']['threshold']:.2f} ({AUTO})" if THRESHOLD_BY in row["protocol"] else ""


def layer_of(store: Store, row: Mapping[str, Any], title: str, classes: Sequence[str]) -> Layer:
    """The result of a row as a layer over photographs; WrongInput if it is no longer in the store."""
    folder = store.folder(row["stage"], row["key"])
    manifest = read_manifest(folder)
    if manifest is None:
        raise WrongInput(f"the result of {row['stage']} is no longer in the store; launch its run again")
    known = scores_of_images(row, store, classes)
    return Layer(title, folder, row["protocol"].get("threshold"), manifest.get("read", ""), row["quantity"], known)


def _groups(settings: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, Any]]]]:
    """Settings by the component that owns them."""
    ordered = sorted(settings.items())
    return [(owner, list(group)) for owner, group in groupby(ordered, lambda setting: setting[0].partition(".")[0])]


def _newest(steps: Sequence[PlannedStage]) -> Mapping[str, Any]:
    manifests = [step.manifest for step in steps if step.manifest is not None]
    return max(manifests, key=lambda manifest: manifest["finished"], default={})
