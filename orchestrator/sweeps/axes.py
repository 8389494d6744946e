"""What `--vary` names: `--vary recam.lambda=0.1,0.5,1`, `--vary cam.epochs=2:8:2`, `--vary irn.lr=loguniform(0.01,0.3)`."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from typing import Any

import yaml

from imagesets.errors import WrongInput
from orchestrator.planning.values import STEPS

THRESHOLD = "seed.threshold"  # not a setting: one pass over the maps scores every threshold of a range
RANDOM = ("uniform", "loguniform")
RANGE = re.compile(r"([^:\[\]]+):([^:\[\]]+):([^:\[\]]+)")
NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d*)?([eE][-+]?\d+)?|-?\.\d+")
DRAWN = re.compile(rf"({'|'.join(RANDOM)})\((.+),(.+)\)")
CALLED = re.compile(r"\w+\(.*\)")


@dataclass(frozen=True)
class Axis:
    """One setting with its `values`, or with a distribution between two bounds from which it is drawn."""

    name: str
    values: tuple[Any, ...] = ()
    distribution: str = ""
    bounds: tuple[float, float] = (0.0, 0.0)

    @property
    def probes(self) -> Sequence[Any]:
        """Values that test whether the setting takes the values of the sweep."""
        return self.values or self.bounds


def parse(text: str) -> Axis:
    """One `--vary`; a range a:b:step includes b if the steps reach it."""
    name, equals, given = (part.strip() for part in text.partition("="))
    if not equals or not given:
        raise WrongInput(f"--vary {text!r} has no values; it takes key=values, such as --vary recam.lambda=0.1,0.5,1")
    if drawn := DRAWN.fullmatch(given):
        kind, low, high = drawn.groups()
        bounds = float(_number(low, text)), float(_number(high, text))
        if not bounds[0] < bounds[1] or (kind == "loguniform" and bounds[0] <= 0):
            above = ", and above 0" if kind == "loguniform" else ""
            raise WrongInput(f"--vary {text}: the first bound must be below the second{above}")
        return Axis(name, distribution=kind, bounds=bounds)
    if CALLED.fullmatch(given):
        raise WrongInput(f"--vary {text}: values are drawn from uniform(low,high) or loguniform(low,high)")
    return Axis(name, _range(text, given) or _listed(text, given))


def _range(text: str, given: str) -> tuple[Any, ...]:
    """The values of start:stop:step; none if this is no range."""
    stepped = RANGE.fullmatch(given)
    if stepped is None:
        return ()
    start, stop, step = (_number(part, text) for part in stepped.groups())
    if step <= 0 or stop < start:
        raise WrongInput(f"--vary {text}: a range is start:stop:step, with stop not below start and a step above 0")
    if (stop - start) / step >= STEPS:
        raise WrongInput(f"--vary {text}: a range has at most {STEPS} values")
    values = [start + number * step for number in range(int((stop - start) / step) + 1)]
    # a setting of whole numbers does not take 2.0
    whole = "." not in given and start == int(start) and step == int(step)
    found = tuple(map(int if whole else float, values))
    if len(set(found)) < len(found):
        raise WrongInput(f"--vary {text}: the step is too small for numbers of this size")
    return found


def _listed(text: str, given: str) -> tuple[Any, ...]:
    """The values of a list, each once."""
    try:
        values = tuple(map(_value, yaml.load(f"[{given}]", yaml.BaseLoader)))
    except (yaml.YAMLError, RecursionError):
        raise WrongInput(f"--vary {text}: the values must be a list such as 0.1,0.5,1 or [1.0],[1.0,0.5]") from None
    if twice := [value for place, value in enumerate(values) if value in values[:place]]:
        raise WrongInput(f"--vary {text} names the value {twice[0]} twice")
    return values


def split(texts: Sequence[str]) -> tuple[list[Axis], tuple[float, float, float] | None]:
    """The axes that make trials, and the threshold range [start, stop, step] if one is given, stop included."""
    axes = [parse(text) for text in texts]
    names = [axis.name for axis in axes]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise WrongInput(f"--vary {twice} is given twice")
    threshold = next((axis for axis in axes if axis.name == THRESHOLD), None)
    if threshold is None:
        return axes, None
    values = threshold.values
    numbers = len(values) > 1 and all(isinstance(value, float) for value in values)
    step, *others = [second - first for first, second in pairwise(values)] if numbers else [0.0]
    if step <= 0 or not all(math.isclose(other, step, rel_tol=1e-6) for other in others):
        raise WrongInput(
            f"--vary {THRESHOLD} takes start:stop:step, such as {THRESHOLD}=0.05:0.6:0.01, or rising values with equal steps"
        )
    whole = values[0], round(values[-1] + step / 2, 9), round(step, 9)
    return [axis for axis in axes if axis is not threshold], whole


def _value(written: Any) -> Any:
    """A value of a grid: a number if it is a number in JSON (007 and no stay text), or a list of such values."""
    if isinstance(written, list):
        return [_value(element) for element in written]
    if not isinstance(written, str):
        raise WrongInput(f"--vary takes values such as 0.1,0.5,1, and not {written}")
    if NUMBER.fullmatch(written) is None:
        return {"true": True, "false": False}.get(written, written)
    return int(written) if written.lstrip("-").isdigit() else float(written)


def _number(text: str, whole: str) -> Decimal:
    """A finite number as it is written; sums of decimals are exact."""
    try:
        if math.isfinite(float(text)):
            return Decimal(text.strip())
    except ValueError:
        pass
    raise WrongInput(f"--vary {whole}: {text.strip()!r} is no finite number")
