"""A command for a cluster to run as a job: checked here, as far as possible without its files, then sent."""

import re
import secrets
import shlex
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from imagesets.errors import WrongInput, refuse
from orchestrator.cluster import jobs, shipping
from orchestrator.engine.interrupt import GIVEN
from orchestrator.planning import in_place
from orchestrator.planning.experiment import Request, experiment
from orchestrator.planning.images import images_recipe
from orchestrator.planning.recipe import Setting
from orchestrator.planning.refusals import problems
from orchestrator.planning.settings import NO_FILE, declared, is_file, parse_assignments
from orchestrator.planning.stage import narrowed
from orchestrator.planning.values import Typed
from orchestrator.reading.hidden import hidden_command
from orchestrator.reading.protocol import SALIENCY
from orchestrator.sweeps.axes import Axis, split
from orchestrator.sweeps.sweep import Sweep
from orchestrator.tables.asked import Asked, parted
from orchestrator.tables.catalogue import find_table
from orchestrator.tables.planned import experiments
from orchestrator.tracking.tracking import VARIABLE, check_uri

STOP_WAIT = 600  # seconds between SIGTERM and Ray's SIGKILL, in which a launch finishes its step or shard and checkpoints
URI = "--tracking-uri"
HERE = Path(__file__)  # stands for a file that may exist only on the cluster, and its folder for such a folder
FILES = ("exclude", "network_from", "maps_from", "masks_from")  # options that name a file or folder


@dataclass(frozen=True)
class Submission:
    """A command: its words, and the values of its options as its own parser reads them."""

    words: tuple[str, ...]
    values: Mapping[str, Any]

    @property
    def entrypoint(self) -> str:
        """The shell command of the head node; `exec` replaces the shell, so a stop reaches the launch itself."""
        # -P: Python must not import a folder of the user's called metrics/
        return f"exec python -P -m orchestrator {shlex.join(self._without_uri())} --address auto"

    @property
    def variables(self) -> dict[str, str]:
        """The job's environment variables: the tracking URI, which may hold a password, because Ray shows a job's command."""
        given = len(self._without_uri()) < len(self.words)
        return {VARIABLE: self.values["tracking_uri"]} if given else {}

    def _without_uri(self) -> list[str]:
        """The words without `--tracking-uri URI` and `--tracking-uri=URI`."""
        pairs = zip(("", *self.words), self.words, strict=False)
        return [word for before, word in pairs if URI not in (before, word) and not word.startswith(f"{URI}=")]

    def check(self) -> None:
        """Raise WrongInput, in one sentence, for what cannot work on a cluster."""
        if self.values.get("address"):
            raise WrongInput("--address goes before the command: the job itself runs on the cluster's own")
        if self.values.get("engine", "ray") != "ray":
            raise WrongInput("--engine local would run on the head node alone; leave --engine out")
        if home := [word for word in self.words if word.startswith("~") or "=~" in word or ":~" in word]:
            raise WrongInput(f"{home[0]}: ~ is another folder on a cluster's nodes; give a full path that all nodes see")
        relative = [f"{option} {path}".rstrip() for option, path in self._paths() if not path.startswith(("/", "s3:/"))]
        if relative:
            raise WrongInput(f"{', '.join(relative)}: a cluster needs absolute paths that all its nodes see")
        check_uri(self.variables.get(VARIABLE, ""))
        if "method" in self.values:
            self._check_settings()
        elif self.words[0] == "table":
            self._check_table()

    def name(self) -> str:
        """A new submission id: the method, the images and six digits."""
        about = [self.values[key].partition(":")[0] for key in ("method", "name", "images") if key in self.values] or [
            self.words[0]
        ]
        return re.sub(r"[^\w.-]+", "-", "-".join([*about, secrets.token_hex(3)]))

    def _check_settings(self) -> None:
        """Resolve method and settings like the cluster, without files that may exist only there."""
        values = self.values
        assigned = tuple(self._assigned())
        request = Request(values["method"], values["images"], values["segmenter"], self._preset, assigned, cluster=True)
        known = self._preset == values["recipe"]
        if "vary" not in values:
            wanted = experiment(request)
            stages = narrowed(wanted.stages, values["until"], values["only"])
            refuse(problems(wanted, stages, {}) if known else [], f"the plan of {request.method}")
            return
        axes, thresholds = self._varied()
        how = {name: values[name] for name in ("trials", "until", "search", "by", "stop_early")}
        sweep = Sweep(request, axes, thresholds, [values["random_seed"]], **how)
        sweep.check()
        if known:
            sweep.refuse({})

    def _check_table(self) -> None:
        """Find the table and its rows, and resolve their settings, as `_check_settings` does."""
        values, kind = self.values, self.values["images"].partition(":")[0]
        asked = Asked(
            table=find_table(values["name"], kind),
            images=values["images"],
            store=values["store"],
            segmenter=values["segmenter"],
            recipe=self._preset,
            assignments=tuple(self._assigned()),
            patterns=tuple(values["rows"]),
            cluster=True,
        )
        asked.check()
        experiments(asked)

    @property
    def _preset(self) -> str:
        """The name of a preset; "" in place of a file of settings, which may exist only on the cluster."""
        return "" if is_file(self.values["recipe"]) else self.values["recipe"]

    def _paths(self) -> Iterator[tuple[str, str]]:
        """Every path of the command line, with its option."""
        values = self.values
        yield "--store", str(values["store"])
        kind, _, path = values.get("images", "shapes").partition(":")
        if not images_recipe(values.get("images", "shapes")).make:
            yield f"--images {kind}:", path
        if is_file(values.get("recipe", "")):
            yield "--recipe", values["recipe"]
        yield from ((f"--{option.replace('_', '-')}", str(values[option])) for option in FILES if values.get(option))
        given = map(_parsed, self._given())
        yield from ((f"--set {rows}{name}=", str(value)) for rows, name, value in given if self._is_path(name, value))
        for axis in split(values.get("vary", ()))[0]:
            yield from ((f"--vary {axis.name}=", str(value)) for value in axis.values if self._is_path(axis.name, value))
        yield from (("--to", str(path)) for path in values.get("to", ()))
        uri = self.variables.get(VARIABLE, "")
        if uri.startswith("sqlite:///"):
            yield "--tracking-uri", uri.removeprefix("sqlite:///")

    def _given(self) -> Iterator[str]:
        """The assignments of `--set` and `--saliency`."""
        yield from self.values.get("assign", ())
        if self.values.get("saliency"):
            yield f"{SALIENCY}={self.values['saliency']}"

    def _assigned(self) -> Iterator[str]:
        """The assignments and imports, with paths that are here in place of those that may be on the cluster alone."""
        imports = in_place.assignments(**{kind: self.values.get(f"{kind}_from") for kind in in_place.HELP})
        for rows, name, value in map(_parsed, (*self._given(), *imports)):
            yield f"{rows}{name}={self._here(name, value)}"

    def _varied(self) -> tuple[list[Axis], tuple[float, float, float] | None]:
        """What `--vary` names, with paths as in `_assigned`."""
        axes, thresholds = split(self.values["vary"])
        return [replace(axis, values=tuple(self._here(axis.name, value) for value in axis.values)) for axis in axes], thresholds

    def _here(self, name: str, value: Any) -> Any:
        if not self._is_path(name, value):
            return value
        return str(HERE if self._setting(name).file else HERE.parent)  # type: ignore[union-attr]  # a path is that of a setting

    def _is_path(self, name: str, value: Any) -> bool:
        """Whether a value of a setting is a path, and no word in place of one."""
        setting = self._setting(name)
        if setting is None or not (setting.file or setting.folder):
            return False
        return str(value) not in (*NO_FILE, *setting.choices)

    def _setting(self, name: str) -> Setting | None:
        return declared(images_recipe(self.values["images"])).get(name.strip())


def _parsed(assignment: str) -> tuple[str, str, Typed]:
    """The pattern of rows and colon that a table's assignment may begin with, the setting and its value."""
    rows, own = parted(assignment)
    ((name, value),) = parse_assignments([own]).items()
    return f"{rows}:" if rows else "", name, value


def send(client: jobs.Client, submission: Submission, version: str, commit: str | None) -> str:
    """Submit with this project's code at `commit`, or without code if None; returns the job's name."""
    about = {jobs.OURS: version, jobs.COMMAND: hidden_command(submission.words)}
    sent = ["wsss-orch", "submit", "--address", client.get_address(), *(["--installed"] if commit is None else [])]
    given = hidden_command([*sent, *submission.words])
    environment: dict[str, Any] = {"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT), GIVEN: given, **submission.variables}}
    with tempfile.TemporaryDirectory(prefix="wsss-orch-") as folder, jobs.answered(client.get_address()):
        if commit is not None:
            environment["py_modules"] = shipping.stage(Path(folder), commit)
        return client.submit_job(
            entrypoint=submission.entrypoint, runtime_env=environment, metadata=about, submission_id=submission.name()
        )
