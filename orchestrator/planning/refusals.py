"""Finds in the plan all that a stage would refuse hours later, before the first stage runs.

The rules are general: they read the declarations of settings in the recipes and do not know any method.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from imagesets.errors import refuse
from imagesets.lists import read_lines
from orchestrator.planning.capabilities import provided_by_entry
from orchestrator.planning.experiment import Experiment
from orchestrator.planning.nearest import closest
from orchestrator.planning.planned_stage import PlannedStage
from orchestrator.planning.prepared import Prepared
from orchestrator.planning.recipes import load_all, parts_of, strides_of
from orchestrator.planning.settings import SAW, parse_assignments
from orchestrator.planning.stage import Stage
from orchestrator.planning.workers import WORKERS, divides, gpus, shared_batches

PRECISION = "training.precision"


def refuse_run(prepared: Prepared, further: Sequence[str] = ()) -> None:
    """Raise WrongInput with all problems that would stop a stage of this plan; `further` are problems found elsewhere."""
    stages = [step.stage for step in prepared.steps if not step.cached]
    counts = {step.stage.list_name: len(step.items) for step in prepared.steps}
    refuse(
        [*problems(prepared.experiment, stages, counts), *overlaps(prepared), *further], f"the plan of {prepared.request.method}"
    )


def problems(wanted: Experiment, stages: Sequence[Stage], counts: Mapping[str, int]) -> list[str]:
    """What is wrong with the settings of `stages`; `counts` has the number of images of each known list."""
    found, allowed = list[str](), _allowed(stages)
    for stage in stages:
        received = [name for name in stage.owned.values() if name]
        for check in (_bound, _foreign_part, _missing, _lacking, _contradiction):
            found += (problem for name in received for problem in check(wanted, name))
        found += [*_size(stage, counts), *_shares(stage, allowed), *_never(stage, counts), *_other_start(stage)]
    if any(stage.recipe.kind == "train" for stage in stages) and not wanted.request.cluster:
        found += _beyond_this_machine(wanted.settings, gpus())
    return list(dict.fromkeys(found))  # several stages may receive one setting


def _beyond_this_machine(settings: Mapping[str, Any], room: int) -> Iterator[str]:
    """What trainings ask for and a machine with `room` GPUs does not have."""
    if 0 < room < settings[WORKERS]:
        yield f"{WORKERS}={settings[WORKERS]} needs as many GPUs, and this machine has {room}"
    if settings[PRECISION] == "float16" and not room:
        yield f"{PRECISION}=float16 needs a GPU, and this machine has none; bfloat16 and float32 need none"


def _beside(name: str, other: str) -> str:
    """The full name of the setting `other` of the recipe that has the setting `name`."""
    return f"{name.partition('.')[0]}.{other}"


def _bound(wanted: Experiment, name: str) -> Iterator[str]:
    """A setting below a bound that depends on another setting."""
    if least := wanted.declared[name].at_least:
        value, other = wanted.settings[name], _beside(name, least.setting)
        bound = least.times * wanted.settings[other] + least.plus
        if value < bound:
            yield f"{name}={value} must be at least {bound:g} where {other}={wanted.settings[other]}"


def _foreign_part(wanted: Experiment, name: str) -> Iterator[str]:
    """A setting that names a part or a stride that the chosen backbone does not have."""
    setting, values = wanted.declared[name], wanted.settings
    if backbone := setting.part_of:
        parts = (*setting.choices, *parts_of(values[backbone]))
        if values[name] not in parts:
            yield f"{name}={values[name]} is no part of {backbone}={values[backbone]}, which has {', '.join(parts)}"
    if (backbone := setting.stride_of) and values[name] not in (strides := strides_of(values[backbone])):
        own = ", ".join(map(str, strides))
        yield f"{name}={values[name]} is no output stride of {backbone}={values[backbone]}, which has {own}"


def _other_start(stage: Stage) -> Iterator[str]:
    """A training that starts from the network before it, which has another backbone."""
    if "network" not in stage.inputs or "network" not in stage.recipe.reads_if:
        return
    before = stage.inputs["network"]
    (own, setting), (given, _) = _backbone(stage), _backbone(before)
    if own and given and own != given:
        weights = _beside(setting, "weights")
        yield (
            f"{setting}={own}, but with {weights}=none {stage.name} starts from {before.name}, which has {given}; "
            f"set {setting}={given}, or {weights} to imagenet or a file"
        )


def _backbone(stage: Stage) -> tuple[str, str]:
    """The name of a stage's backbone, and the full name of the setting that names it."""
    return next(
        ((stage.names[name], stage.owned[name]) for name in ("backbone.name", "backbone") if name in stage.names), ("", "")
    )


def _missing(wanted: Experiment, name: str) -> Iterator[str]:
    """Files that a stage cannot do without, such as saliency maps."""
    if (needed := wanted.declared[name].needed) and wanted.settings[name] == "none":
        yield f"{wanted.request.method} needs {needed}"


def _lacking(wanted: Experiment, name: str) -> Iterator[str]:
    """A setting that the chosen entry of a table, such as the backbone, cannot follow."""
    value, needs = wanted.settings[name], wanted.declared[name].needs
    if needs and value:
        other = _beside(name, needs.of)
        if needs.capability not in provided_by_entry(wanted.settings[other]):
            lacks = f"which {other}={wanted.settings[other]} does not provide"
            yield f"{name}={value} needs {needs.capability}, {lacks}; {name}=0 fits"


def _contradiction(wanted: Experiment, name: str) -> Iterator[str]:
    """A setting that tells what weights saw, where the weights are no file."""
    setting, value = wanted.declared[name], wanted.settings[name]
    weights = _beside(name, setting.told_of)
    saw = SAW.get(wanted.settings[weights]) if setting.told_of else None
    if saw is not None and value not in (setting.default, saw):
        yield f"{name}={value} tells of a file, and {weights}={wanted.settings[weights]} is none; it saw {saw}"


def _never(stage: Stage, counts: Mapping[str, int]) -> Iterator[str]:
    """Add-ons to a training that would end before they begin."""
    settings, per_epoch = stage.settings, counts.get(stage.list_name, 0) // stage.settings.get("batch", 1)
    for name in stage.add_ons:
        begin = settings.get(f"{name}.begin", 0)
        before = {"epochs": begin, "iterations": begin * per_epoch}  # how long the training is before the add-on begins
        if too_short := [own for own in before if begin and own in settings and before[own] >= settings[own]]:
            own = too_short[0]
            told = f"{stage.owned[own]}={settings[own]}"
            epochs = "" if own == "epochs" else f" times the {per_epoch} steps of an epoch"
            yield f"{name}.begin={begin}{epochs} must be below {told}, because {name} would never begin"


def _size(stage: Stage, counts: Mapping[str, int]) -> Iterator[str]:
    """A training's list with too few images: for any batch, or for the batch that is set."""
    images = counts.get(stage.list_name)
    if images is None or stage.recipe.kind != "train":
        return
    if images < stage.least_share:
        with_others = "".join(f" with {name}" for name in stage.add_ons)
        has = f"the training list {stage.list_name} has {images}"
        yield f"{stage.name}{with_others} needs at least {stage.least_share} training images, and {has}"
    elif stage.settings.get("batch", 0) > images:
        name, batch = stage.owned["batch"], stage.settings["batch"]
        list_name = f"the training list {stage.list_name}, which has {images} images"
        yield f"{name}={batch} is larger than {list_name}; {name}={images} is the most"


def _shares(stage: Stage, allowed: str) -> Iterator[str]:
    """A training's batch that does not divide by its workers and parts."""
    for batch, parts, least in shared_batches([stage]):
        workers = stage.settings[WORKERS]
        shares = workers * parts
        name, accumulate = stage.owned["batch"], stage.owned.get("accumulate")
        if not batch % shares and batch // shares < least:
            own = f"{name}={batch} leaves {batch // shares} to each part of a batch, which needs {least} images"
            yield f"{own}; it takes {name}={least * shares}, or {allowed}"
        if batch % shares:
            nearest = " or ".join(str(size) for size in (batch // shares * shares, -(-batch // shares) * shares) if size)
            also = f" times {accumulate}={parts}" if parts > 1 else ""
            yield f"{name}={batch} does not divide among {WORKERS}={workers}{also}; it takes {name}={nearest}, or {allowed}"


def _allowed(stages: Sequence[Stage]) -> str:
    """The numbers of workers that divide the batches of all trainings."""
    most = max((batch for batch, *_ in shared_batches(stages)), default=1)
    counts = [str(count) for count in range(1, most + 1) if divides(stages, count)]
    return f"{WORKERS}={' or '.join(counts)}" if counts else "other parts"


def overlaps(prepared: Prepared) -> Iterator[str]:
    """Images that a stage learns from, and that are also in the list on which segmenters are scored first."""
    held_out = prepared.settings["images.validation"][0]
    over = {step.stage.list_name: step for step in prepared.steps}
    parts = [step.stage for step in prepared.steps]
    learnt = {stage.list_name for stage in parts if stage.recipe.kind == "train" or stage.recipe.list == "fitting"}
    if held_out not in over:
        return
    held = set(over[held_out].items.names())
    for name in sorted(learnt):
        if name == held_out:
            yield f"stages would learn from the images of the list {name}, which is held out (images.validation)"
        elif shared := sorted(held.intersection(over[name].items.names())):
            where = f"the lists {name} and {held_out} (images.validation)"
            yield f"{where} share {len(shared)} images, such as {shared[0]}; a list that is held out shares none"


def made_otherwise(prepared: Prepared) -> list[str]:
    """A sentence for each training that the store has with another number of workers, if the number was not asked for."""
    if WORKERS in parse_assignments(prepared.request.assignments):
        return []
    return [note for step in prepared.steps for note in _made_otherwise(prepared, step)]


def unread(wanted: Experiment) -> Iterator[str]:
    """A sentence for each assigned setting that no stage of the run reads, and for a file of --exclude without any id."""
    exclude = wanted.request.exclude
    if exclude and exclude.is_file() and not read_lines(exclude):
        yield f"--exclude {exclude} is empty, so no image is left out"
    table = wanted.declared
    for name, value in parse_assignments(wanted.request.assignments).items():
        of_data = name.startswith(("images.", "imported."))
        if name not in effective(wanted) | wanted.read and not (of_data and not table[name].needed):
            hint = "" if of_data else f"; the nearest setting that is read is {closest(name, wanted.used)}"
            yield f"nothing in {wanted.request.method} reads {name}={value}{hint}"


def effective(wanted: Experiment) -> set[str]:
    """The settings that change a run: those that its stages read, and those that place a component."""
    components = set().union(*(stage.components for stage in wanted.stages))
    return {*wanted.used, *(f"{name}.{load_all()[name].after}" for name in components if load_all()[name].after)}


def _made_otherwise(prepared: Prepared, step: PlannedStage) -> Iterator[str]:
    if step.cached or step.stage.recipe.kind != "train":
        return
    own = json.loads(json.dumps(step.identity))
    for manifest in prepared.planner.store.results(step.stage.name):
        if _but_workers(manifest["identity"]) == _but_workers(own):
            count = manifest["identity"]["settings"][WORKERS]
            yield (
                f"{step.stage.name} exists, made with {WORKERS}={count}: --set {WORKERS}={count} uses it; "
                f"otherwise it is made again with {own['settings'][WORKERS]}"
            )


def _but_workers(identity: Mapping[str, Any]) -> dict[str, Any]:
    return {**identity, "settings": {name: value for name, value in identity["settings"].items() if name != WORKERS}}
