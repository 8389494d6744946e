"""The pseudo masks or segmentations of a finished run for other tools: label maps, and files that describe them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from imagesets.errors import WrongInput
from imagesets.exchange import LabelMaps, write_coco_results, write_folder, write_server_archive
from orchestrator.afterwards.new_folder import new_folder
from orchestrator.planning import scores
from orchestrator.reading.runs import FinishedRun
from orchestrator.storage.shards import StoredRecords
from orchestrator.storage.store import write_json

FORMATS = ("voc", "voc-server", "coco-rle")
COMPETITIONS = ("comp5", "comp6")


def export(run: FinishedRun, target: Path, form: str, what: str, competition: str) -> int:
    """Write the run's label maps of the quantity `what` to the new folder `target`; returns the number of images."""
    check_form(form, competition)
    known = scores.label_maps()
    if what not in known:
        raise WrongInput(f"--what {what} is neither {' nor '.join(known)} nor model nor bundle")
    final = scores.of_word("predictions")
    if form == "voc-server" and what != final:
        raise WrongInput(f"--format voc-server is for {known[final].many}, which the server scores; it takes --what {final}")
    stage, row = run.made(what)
    made, manifest = run.result(stage.name)
    records = StoredRecords(made)
    # the list of the records, which may be longer than the one that was scored
    split = next(entry["list"] for entry in run.results["stages"] if entry["stage"] == stage.name)
    about = about_run(run, known[what].many, stage.name, manifest) | {"split": split, "images": len(records)}
    about |= {name: row[name] for name in ("metrics", "protocol")} if row else {}
    with new_folder(target) as folder:
        write(folder, ((id, records[id]["label"]) for id in records), form, split, competition, about)
    return len(records)


def check_form(form: str, competition: str) -> None:
    """Raise WrongInput for a format or a competition that does not exist, and for a competition in a format that has none."""
    if form not in FORMATS:
        raise WrongInput(f"--format {form} is not one of {', '.join(FORMATS)}")
    if competition not in ("", *COMPETITIONS):
        raise WrongInput(f"--competition {competition} is neither {' nor '.join(COMPETITIONS)}")
    if competition and form != "voc-server":
        raise WrongInput(f"--competition {competition} is for --format voc-server; {form} names no competition")


def about_run(run: FinishedRun, what: str, stage: str, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The origin of exported label maps; `values` names the values of their pixels."""
    names = ["background", *run.classes]
    return {
        "what": what,
        "run": run.name,
        "method": run.results["method"],
        "random_seed": run.results["random_seed"],
        "stage": stage,
        "key": manifest["key"],
        "digest": manifest["digest"],
        "commit": manifest["commit"],
        "values": {str(value): name for value, name in enumerate(names)} | {"255": "void"},
    }


def write(folder: Path, maps: LabelMaps, form: str, name: str, competition: str, about: Mapping[str, Any]) -> None:
    """Write label maps, and the facts `about` them, to a new folder; `name` is the name of their list."""
    classes = list(about["values"].values())[1:-1]  # the classes, without background and void
    writers: dict[str, Callable[[Path], None]] = {
        "voc": lambda folder: write_folder(folder, name, maps),
        "voc-server": lambda folder: write_server_archive(folder / "results.tgz", maps, competition or COMPETITIONS[-1]),
        "coco-rle": lambda folder: write_coco_results(folder, maps, classes),
    }
    writers[form](folder)
    write_json(folder / "manifest.json", {"format": form, **about})
    (folder / "README.txt").write_text(_readme(form, name, about), encoding="utf-8")


def _readme(form: str, name: str, about: Mapping[str, Any]) -> str:
    told = {
        "voc": f"<id>.png are palette PNGs whose pixels are label values (manifest.json names them); {name}.txt lists the ids.",
        "voc-server": "results.tgz is the archive for the evaluation server of PASCAL VOC 2012.",
        "coco-rle": "results.json holds one result per image and class, for pycocotools' loadRes;\n"
        "dataset.json names the images and categories of its ids.",
    }
    origin = f"run {about['run']} ({about['method']}), stage {about['stage']}, key {about['key']}"
    return f"{about['images']} {about['what']} of {origin}, made by wsss-orch.\n{told[form]}\n"
