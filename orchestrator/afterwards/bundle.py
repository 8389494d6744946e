"""A bundle: one file with a run's networks, settings, results and model card, for a colleague who has no store.

It is a zip file with the layout of a store: `runs/RUN/results.json`, and `manifest.json` and `network.pt` of each network in
`stages/`. `SHA256SUMS` has the checksum of every other file. Paths of the machine that made the run are left out.
"""

import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from imagesets.errors import WrongInput
from orchestrator.afterwards.model_card import card
from orchestrator.engine.checks import check_imports
from orchestrator.engine.context import damaged
from orchestrator.planning import scores
from orchestrator.planning.prepared import Prepared
from orchestrator.planning.recipes import find, load_all
from orchestrator.planning.settings import declared
from orchestrator.planning.stage import Stage
from orchestrator.reading.groups import find_run
from orchestrator.reading.runs import FinishedRun, current
from orchestrator.storage.place import MANIFEST, NETWORK, RESULTS
from orchestrator.storage.result import Result
from orchestrator.storage.store import Store, digest, write_atomically

MARK = "bundle.json"
FORMAT = 1  # of bundles
SUMS = "SHA256SUMS"
SUFFIX = ".zip"
FACTS = ("stage", "key", "digest", "commit", "versions", "items", "list", "finished", "device")  # of a manifest
DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OSError)  # what zipfile raises
EPOCH = (1980, 1, 1, 0, 0, 0)  # the time of every file inside: equal runs give equal bundles


@dataclass(frozen=True)
class BundledRun(FinishedRun):
    """A run read from a bundle; its files are in a temporary folder, which goes when the run is no longer used."""

    unpacked: TemporaryDirectory


def write_bundle(run: FinishedRun, target: Path) -> list[str]:
    """Write a bundle to the new file `target`; returns the names of the networks in it."""
    if target.suffix != SUFFIX:
        raise WrongInput(f"--to {target} must end in {SUFFIX}: a bundle is one file")
    if target.exists():
        raise WrongInput(f"--to {target} exists; give a new file")
    networks = _networks(run)
    files = {MARK: _json({"format": FORMAT, "run": run.name}), "model_card.md": card(run).encode()}
    files |= {f"runs/{run.name}/{RESULTS}": _json(_results(run, networks))}
    for stage in networks:
        folder, manifest = run.result(stage.name)
        files[f"stages/{folder.name}/{MANIFEST}"] = _json({name: manifest[name] for name in FACTS if name in manifest})
        path = Result(folder).file(NETWORK)
        files[f"stages/{folder.name}/{NETWORK}"] = content = path.read_bytes()
        if digest(content) != manifest["digest"]:
            raise damaged(path)
    files[SUMS] = "".join(f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in files.items()).encode()
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(target, _zipped(files))
    return [stage.name for stage in networks]


def open_model(store: Path, name: str, quantity: str = "") -> FinishedRun:
    """The run in the bundle at the path `name`; else the run, or the newest run of a method expression, in the store.

    Of an expression it is the newest run with `quantity`, by default with segmentations.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return open_bundle(path)
    if path.suffix == SUFFIX:
        raise WrongInput(f"{name}: there is no such file")
    return find_run(store, name, quantity or scores.of_word("predictions"))


def open_bundle(path: Path) -> FinishedRun:
    """The run in a bundle. Raises WrongInput for a file that is none, or that is damaged."""
    unpacked = TemporaryDirectory(prefix="wsss-orch-")
    root = Path(unpacked.name)
    files = read_bundle(path)
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    try:
        mark = json.loads(files[MARK])
        name, form = mark["run"], mark["format"]
        results = json.loads(files[f"runs/{name}/{RESULTS}"])
        if not (name.isprintable() and isinstance(results, dict)):
            raise ValueError("its name or its results have another form")
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise WrongInput(f"{path} names no run ({error!r}); it was not made by wsss-orch") from None
    if form != FORMAT:
        raise WrongInput(
            f"{path} is a bundle of the format {form}, and this version reads the format {FORMAT}; install that version"
        )
    return BundledRun(name, Store(root), current(results), unpacked)


def read_bundle(path: Path) -> dict[str, bytes]:
    """The files of a bundle by name, each compared with its checksum. Raises WrongInput."""
    try:
        with zipfile.ZipFile(path) as packed:
            files = {name: packed.read(name) for name in packed.namelist()}
    except DAMAGED as error:
        raise WrongInput(f"{path} is no whole bundle ({error}); `wsss-orch export RUN --what bundle` writes one") from None
    if MARK not in files or SUMS not in files:
        raise WrongInput(f"{path} is a zip file, but no bundle; `wsss-orch export RUN --what bundle` writes one")
    sums = {name: sum for sum, _, name in (line.partition("  ") for line in files[SUMS].decode(errors="replace").splitlines())}
    for name in sorted(sums.keys() | files.keys() - {SUMS}):
        if hashlib.sha256(files.get(name, b"")).hexdigest() != sums.get(name):
            raise WrongInput(f"{path} is damaged: {name} is not what its checksum says; have it sent again")
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise WrongInput(f"{path} names {name}, which lies outside of it; it was not made by wsss-orch")
    return files


@dataclass(frozen=True)
class Bundle:
    """A bundle that another run starts from."""

    path: Path
    run: FinishedRun

    def network(self, folder: Path) -> Path:
        """The method's network as a plain state dict in `folder`, named by its content."""
        found = self._stage()
        made, manifest = self.run.result(found.name)
        target = folder / f"{found.name}-{manifest['digest'][:12]}.pt"
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(target, (made / NETWORK).read_bytes())
        return target

    def _stage(self) -> Stage:
        """The stage of the method's network."""
        found = next((stage for stage in _networks(self.run) if is_method_s(stage)), None)
        if found is None:
            raise WrongInput(
                f"--network-from {self.path}: {self.run.results['method']} has no network that could replace another"
            )
        return found

    def check_fit(self, planned: Prepared) -> None:
        """Raise WrongInput, which names the bundle and its network, if a plan has another network."""
        importing = [step for step in planned.steps if "imported.network" in step.stage.settings]
        try:
            check_imports(importing, planned.images)
        except WrongInput as error:
            own = self._stage()
            backbone = f" on the backbone {own.names['backbone.name']}" if "backbone.name" in own.names else ""
            held = f"--network-from {self.path} (the {own.name} of {self.run.results['method']}{backbone})"
            raise WrongInput(str(error).replace(importing[0].stage.settings["imported.network"], held)) from None

    def check(self, classes: Sequence[str]) -> None:
        """Raise WrongInput unless these are the classes of the bundle, in its order."""
        if tuple(classes) != self.run.classes:
            raise WrongInput(
                f"--network-from {self.path} knows the classes {', '.join(self.run.classes)}, and the images have "
                f"{', '.join(classes)}; they must be the same, in this order"
            )


def bundled(path: Path | None) -> Bundle | None:
    """The bundle at `path`; None if there is no file, or one of another kind (what torch.save writes is a zip file too)."""
    if path is None or not zipfile.is_zipfile(path):
        return None
    with suppress(*DAMAGED), zipfile.ZipFile(path) as packed:
        if MARK in packed.namelist():
            return Bundle(path, open_bundle(path))
    return None


def _networks(run: FinishedRun) -> list[Stage]:
    """The method's networks, which `launch --network-from` can take over, and the one that segments."""
    segmenting = run.network_stage.name
    listed = {entry["stage"] for entry in run.results["stages"]}
    return [
        stage
        for stage in run.stages.values()
        if stage.name in listed and stage.recipe.network and (stage.name == segmenting or is_method_s(stage))
    ]


def is_method_s(stage: Stage) -> bool:
    """Whether a stage delivers the network that `--network-from` replaces: that of the component of kind network."""
    return stage.recipe.writes == "network" and load_all()[stage.in_place_of or stage.component].kind == "network"


def _results(run: FinishedRun, networks: list[Stage]) -> dict[str, Any]:
    """The run's results without the paths of this machine, and with the stages that are in the bundle, and their reader."""
    kept = {stage.name for stage in networks} | {run.prediction_stage.name}
    command = run.command | {
        "images": run.command["images"].partition(":")[0],
        "exclude": "",
        "recipe": Path(run.command["recipe"]).name,
    }
    stages = [entry for entry in run.results["stages"] if entry["stage"] in kept]
    return {**run.results, "command": command, "settings": _without_paths(run), "stages": stages}


def _without_paths(run: FinishedRun) -> dict[str, Any]:
    known = declared(find(run.results["images_recipe"], ("images",))[0])
    return {
        name: Path(value).name if name in known and (known[name].file or known[name].folder) else value
        for name, value in run.results["settings"].items()
    }


def _json(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, indent=1).encode()


def _zipped(files: Mapping[str, bytes]) -> bytes:
    """A zip file that depends on nothing but the files; networks are not compressed, because their numbers hardly shrink."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in files.items():
            how = zipfile.ZIP_STORED if name.endswith(".pt") else zipfile.ZIP_DEFLATED
            archive.writestr(zipfile.ZipInfo(name, EPOCH), content, how)
    return packed.getvalue()
