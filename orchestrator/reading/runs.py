"""Finished runs, opened by name: their `results.json` and their stages in the store."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from imagesets.errors import WrongInput, named
from imagesets.image_set import ImageSet
from orchestrator.planning import scores
from orchestrator.planning.components import components
from orchestrator.planning.expression import expand
from orchestrator.planning.images import open_images
from orchestrator.planning.nearest import nearest
from orchestrator.planning.recipes import load_all
from orchestrator.planning.stage import Stage
from orchestrator.reading.results import FORMAT
from orchestrator.storage.place import RECORD, RESULTS
from orchestrator.storage.store import Store, check_store, read_json, read_manifest


@dataclass(frozen=True)
class FinishedRun:
    """A run with results."""

    name: str
    store: Store
    results: dict[str, Any]

    @property
    def command(self) -> dict[str, Any]:
        """The launch options beside the settings (see `orchestrator.reading.results`)."""
        return self.results["command"]

    @property
    def classes(self) -> tuple[str, ...]:
        """The foreground class names."""
        return tuple(self.results["classes"])

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The settings of the run, and the defaults of those of images and scores that came after it."""
        recipes = (*scores.recipes(), load_all()["images"])
        newer = {f"{recipe.name}.{name}": setting.default for recipe in recipes for name, setting in recipe.settings.items()}
        return newer | self.results["settings"]

    def images(self, make: bool) -> ImageSet:
        """The image set of the run. Missing built-in images are made with `make`; without, WrongInput is raised."""
        exclude = Path(self.command["exclude"]) if self.command["exclude"] else None
        opened = open_images(self.command["images"], self.settings, self.store.root, make=make, exclude=exclude)
        if opened is None:
            raise WrongInput(
                f"the built-in images of {self.name} are not in {self.store.root} any more; launch it again to draw them"
            )
        return opened

    @property
    def prediction_stage(self) -> Stage:
        """The stage that makes the run's segmentations."""
        return self.made(scores.of_word("predictions"))[0]

    @property
    def network_stage(self) -> Stage:
        """The training of the network that makes the run's segmentations."""
        return next(source for source in self.prediction_stage.inputs.values() if source.recipe.network)

    @cached_property
    def stages(self) -> dict[str, Stage]:
        """The run's stages by name, expanded again from its settings."""
        chain = components(self.results["method"], self.results["segmenter"])
        try:
            return {stage.name: stage for stage in expand(chain, self.settings)}
        except KeyError as error:
            raise WrongInput(f"run {self.name} was made by a version without the setting {error}; launch it again") from error

    def made(self, quantity: str) -> tuple[Stage, dict[str, Any] | None]:
        """The last stage that makes `quantity`, and its row of the results on the first list; no row if it was not scored."""
        rows = [row for row in self.results["rows"] if row["quantity"] == quantity]
        if rows:
            row = next(row for row in rows if row["stage"] == rows[-1]["stage"])
            return self.stages[row["stage"]], row
        makers = self._makers
        if quantity not in makers:
            files = [name for name, about in scores.quantities().items() if about.label_maps or about.threshold]
            there = ", ".join(name for name in files if name in makers) or "nothing"
            raise WrongInput(f"run {self.name} has no {quantity}; it has {there}")
        return makers[quantity], None

    @cached_property
    def _makers(self) -> dict[str, Stage]:
        """The last stage that makes each quantity."""
        listed = {entry["stage"] for entry in self.results["stages"]}
        return {name: stage for stage in self.stages.values() if stage.name in listed for name in scores.of_stage(stage.recipe)}

    def has(self, quantity: str) -> bool:
        """Whether a stage of the run makes `quantity`."""
        return quantity in self._makers

    def manifests(self) -> dict[str, dict[str, Any] | None]:
        """The manifest of every stage by its name in this run; None if its result is no longer in the store."""
        return {entry["stage"]: read_manifest(self._folder(entry)) for entry in self.results["stages"]}

    def result(self, stage: str) -> tuple[Path, dict[str, Any]]:
        """The folder and the manifest of a stage's result."""
        entry = next(entry for entry in self.results["stages"] if entry["stage"] == stage)
        manifest = read_manifest(self._folder(entry))
        if manifest is None:
            raise WrongInput(f"the result of {stage} of run {self.name} is no longer in the store; launch the run again")
        return self._folder(entry), manifest

    def _folder(self, entry: dict[str, Any]) -> Path:
        return self.store.folder(entry["stage"], entry["key"])


def open_run(store: Path, name: str) -> FinishedRun:
    """The finished run called `name` below `<store>/runs`; WrongInput with the nearest name if there is none."""
    found = {path.parent.name: path for path in result_files(store)}
    if name not in found:
        if name and name == Path(name).name and (store / "runs" / name).is_dir():  # a path, such as NAME/, is no name
            raise WrongInput(f"run {name} has no results yet; the command that launched it continues it")
        check_store(store)
        if sweep := read_json(store / "sweeps" / name / RECORD):
            trials = named([trial["group"] for trial in sweep["trials"]], 5)
            raise WrongInput(f"{name} is a sweep, and not a run; its trials are {trials or 'none yet'}")
        raise WrongInput(f"there is no finished run {name!r} in {store / 'runs'}{nearest(name, found) if found else ''}")
    results = read_results(found[name])
    if not results:
        raise WrongInput(f"run {name} was removed from {store / 'runs'} while this command read it")
    return FinishedRun(name, Store(store), current(results))


def result_files(store: Path) -> list[Path]:
    """The `results.json` of every finished run of a store."""
    return sorted((store / "runs").glob(f"*/{RESULTS}"))


def read_results(path: Path) -> dict[str, Any]:
    """A `results.json`, empty if somebody has removed it; WrongInput if it is not whole."""
    return read_json(path) or {}


def current(results: dict[str, Any]) -> dict[str, Any]:
    """These results; WrongInput if an older version wrote them."""
    if results.get("format") != FORMAT:
        raise WrongInput(
            f"run {results['run']} was written by an older version; launch it again to complete its results from the store"
        )
    return results
