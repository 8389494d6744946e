"""The model card of a run's segmenter: its classes, what its weights learnt from, how it was scored, and its limits."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from time import gmtime, strftime
from typing import Any

from orchestrator.planning import scores
from orchestrator.planning.in_place import IMPORTED
from orchestrator.planning.recipes import find, load_all
from orchestrator.planning.settings import NO_FILE, SAW, declared
from orchestrator.reading.formats import markdown_table
from orchestrator.reading.numbers import heading, told
from orchestrator.reading.protocol import SALIENCY, way
from orchestrator.reading.results import subjects
from orchestrator.reading.runs import FinishedRun

UNKNOWN = "unknown"  # what a file of weights learnt from, if the user does not tell
LIMITS = """Everything that is none of the classes is background to this model. The scores hold for images like those of the
scored lists: images of other cameras, sizes or scenes may be segmented worse, and nothing here measures by how much. Thresholds
and settings may have been chosen on a scored list. The weights come under the terms of the training images and
of the initial weights."""


def card(run: FinishedRun) -> str:
    """The card in Markdown."""
    results = run.results
    made = strftime("%Y-%m-%d", gmtime(results["finished"]))
    sections = {
        "Classes": _classes(run),
        "What the weights learnt from": "\n".join(f"- {line}" for line in learnt_from(run)),
        "Scores": _scores(results),
        "Protocol": _protocol(results),
        "How it was made": "\n".join(f"- {line}" for line in _components(run)),
        "Limits": LIMITS,
    }
    told = f"run {run.name}, method {results['method']}, segmenter {results['segmenter']}, random seed {results['random_seed']}"
    head = f"# {results['method']} on {results['images']}\n\nA segmenter made by wsss-orch: {told}, finished on {made}.\n"
    return head + "".join(f"\n## {title}\n\n{text}\n" for title, text in sections.items())


def learnt_from(run: FinishedRun) -> Iterator[str]:
    """A sentence on each kind of supervision that reached the weights."""
    stages, settings = run.stages.values(), run.results["settings"]
    masks = any(stage.recipe.truth and not stage.scores for stage in stages)
    saliency = any(SALIENCY in stage.owned.values() for stage in stages)
    images = f"the list {settings['images.training']} of {run.results['images']}"
    if masks:
        yield f"official pixel masks of {images}: fully supervised"
    else:
        yield f"image-level labels of {images}: no masks, boxes or points{', but saliency maps' if saliency else ''}"
    yield from _initial_weights(run)
    for stage in stages:
        if stage.component == IMPORTED and not stage.scores:
            yield f"{stage.recipe.writes} from files in place of {stage.in_place_of}'s; what those learnt from is not known here"


def _initial_weights(run: FinishedRun) -> Iterator[str]:
    settings, known = run.results["settings"], declared(find(run.results["images_recipe"], ("images",))[0])
    telling = {f"{name.partition('.')[0]}.{about.told_of}": name for name, about in known.items() if about.told_of}
    trained = [stage for stage in run.stages.values() if stage.recipe.kind == "train"]
    for name in dict.fromkeys(full for stage in trained for full in stage.owned.values() if full and known[full].weights_of):
        weights = settings[name]
        saw = SAW.get(weights) or settings.get(telling.get(name, ""), UNKNOWN)
        shown = weights if weights in NO_FILE else f"the file {Path(weights).name}"
        learnt = "; what it learnt from is not stated" if saw == UNKNOWN else f", which learnt from {saw}"
        yield f"initial weights {name}: {shown}" + ("" if weights == "none" else learnt)


def _classes(run: FinishedRun) -> str:
    names = ["background", *run.classes]
    return markdown_table(("label", "class"), [(str(value), name) for value, name in enumerate(names)])


def _scores(results: Mapping[str, Any]) -> str:
    """The main scores of the run."""
    rows = results["rows"]
    if not rows:
        return "Nothing was scored: the image set has no masks."
    metrics = scores.metrics((row["quantity"] for row in rows), "tables")
    body = [
        [row["quantity"], of, row["split"], *(told(row["metrics"].get(name), metric) for name, metric in metrics.items())]
        for row, of in zip(rows, subjects(rows), strict=True)
    ]
    return "In percent, unless a column says otherwise.\n\n" + markdown_table(
        ["", "of", "list", *(heading(metric) for metric in metrics.values())], body
    )


def _protocol(results: Mapping[str, Any]) -> str:
    """The protocol of each score, one line each."""
    lines = []
    for row in results["rows"]:
        threshold = f" (threshold {way(row['protocol'])})" if "threshold" in row["protocol"] else ""
        told = "; ".join(f"{name}: {value}" for name, value in row["protocol"].items())
        lines.append(f"- {row['quantity']} on {row['split']}{threshold}: {told}")
    return "\n".join(lines) or "Nothing was scored."


def _components(run: FinishedRun) -> Iterator[str]:
    """The components behind the segmenter, with their papers."""
    names = dict.fromkeys(name for stage in run.stages.values() if not stage.scores for name in (stage.component, *stage.add_ons))
    for name in names:
        recipe = load_all()[name]
        yield f"{recipe.title}" + (f": {recipe.paper}" if recipe.paper else "")
