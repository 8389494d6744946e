"""What a finished run was made with, and what differs on this machine.

The run is planned again, and its stages' keys are compared: a stage with another key has other code, settings or images
than the run had.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from imagesets.errors import WrongInput
from orchestrator.engine.provenance import git_commit, versions
from orchestrator.planning.experiment import Request, experiment
from orchestrator.planning.planned_stage import PlannedStage
from orchestrator.planning.prepared import open_images_of, prepare
from orchestrator.planning.recipe import Setting
from orchestrator.planning.recipes import find
from orchestrator.planning.settings import declared
from orchestrator.reading.protocol import shown
from orchestrator.reading.runs import FinishedRun

NOT_COMPARED = "not compared"


@dataclass(frozen=True)
class Line:
    """One thing that a run was made with, and what it is here ("" if the same)."""

    what: str
    was: str
    here: str = ""

    def __str__(self) -> str:
        state = "same" if not self.here else "unknown" if self.here == NOT_COMPARED else "differs"
        return f"{self.what:32}{state:9}{self.was}{'; here ' if self.was and self.here else ''}{self.here}"


def compared(run: FinishedRun, request: Request) -> Iterator[Line]:
    """What the run was made with, one line each, compared with this machine."""
    manifests = {name: manifest for name, manifest in run.manifests().items() if manifest}
    if lost := [name for name in run.manifests() if name not in manifests]:
        yield Line("store", f"{len(lost)} results of stages", f"not there any more: {', '.join(lost)}")
    yield from _versions(manifests.values())
    yield _compared("commit", _values(manifest["commit"] for manifest in manifests.values()), git_commit())
    problem, steps = "", {}
    try:
        steps = {step.stage.name: step for step in _plan(request)}
    except WrongInput as error:
        problem = f"cannot be made: {str(error).splitlines()[0]}"
    yield from _settings(run, {name for step in steps.values() for name in step.stage.owned.values()})
    yield from _weights(run)
    if problem:
        yield Line("plan", "", problem)
    yield from _images(run, manifests, steps)
    yield from _stages(run, manifests, steps)


def _plan(request: Request) -> list[PlannedStage]:
    wanted = experiment(request)
    images = open_images_of(wanted, make=False)
    if images is None:
        raise WrongInput("the built-in images are not drawn in this store, or this version draws other images")
    return prepare(wanted, images).steps


def _values(found: Iterable[str]) -> str:
    return " and ".join(sorted({value or "none" for value in found})) or "unknown"


def _compared(what: str, was: str, here: str) -> Line:
    return Line(what, was, "" if was == (here or "none") else here or "none")


def _versions(manifests: Iterable[Mapping[str, Any]]) -> Iterator[Line]:
    """The packages that stages were made with; several versions if different launches made the stages."""
    found = defaultdict(set)
    for manifest in manifests:
        for package, version in manifest["versions"].items():
            found[package].add(version)
    here = versions()
    for package, those in found.items():
        yield _compared(f"package {package}", _values(those), here.get(package, "not installed"))


def _settings(run: FinishedRun, read: set[str]) -> Iterator[Line]:
    """Settings that only the run has read, or that only this version has and would `read`."""
    then, now = run.results["settings"], _declared(run)
    for name in sorted(set(run.results["used"]) - now.keys()):
        yield Line(f"setting {name}", str(then[name]), "there is none")
    for name in sorted(read & (now.keys() - then.keys())):
        yield Line(f"setting {name}", "there was none", str(now[name].default))


def _weights(run: FinishedRun) -> Iterator[Line]:
    """The initial weights of the scored networks; files by their content."""
    protocol = {name: value for row in run.results["rows"] for name, value in row["protocol"].items()}
    for name, setting in _declared(run).items():
        if setting.file and name in protocol:
            yield _compared(name, protocol[name], shown(run.results["settings"][name]))


def _declared(run: FinishedRun) -> dict[str, Setting]:
    return declared(find(run.results["images_recipe"], ("images",))[0])


def _images(run: FinishedRun, manifests: Mapping[str, Any], steps: Mapping[str, PlannedStage]) -> Iterator[Line]:
    """The fingerprints of the lists that stages read: images with labels, and masks."""
    found = {}
    lists = {entry["stage"]: entry["list"] for entry in run.results["stages"]}
    for name, manifest in manifests.items():
        if name in steps and steps[name].stage.list_name != lists[name]:
            continue  # a result over a wider list; its content is compared by key
        for kind in ("images", "masks"):
            if was := manifest["identity"][kind]:
                here = steps[name].identity[kind] if name in steps else ""
                found[f"{kind} of {lists[name]}"] = was, manifest["items"], here
    for what, (was, count, here) in found.items():
        changed = "" if was == here else f"other ones, {here}" if here else NOT_COMPARED
        yield Line(what, f"{count}, fingerprint {was}", changed)


def _stages(run: FinishedRun, manifests: Mapping[str, Any], steps: Mapping[str, PlannedStage]) -> Iterator[Line]:
    """Whether the code, and with it all other parts of the keys, is the same."""
    keys = {entry["stage"]: entry["key"] for entry in run.results["stages"]}
    code = [
        name for name, step in steps.items() if name in manifests and manifests[name]["identity"]["code"] != step.identity["code"]
    ]
    others = [name for name, key in keys.items() if name not in steps or steps[name].result != key]
    compared = "" if steps else NOT_COMPARED
    yield Line("code", f"of {len(keys)} stages", compared or (f"other code in {', '.join(code)}" if code else ""))
    yield Line("keys", f"of {len(keys)} stages", compared or (f"other results in {', '.join(others)}" if others else ""))
