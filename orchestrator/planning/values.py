"""Values of settings: typed texts, read in the type of the setting's default and within the bounds of its recipe."""

import math
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from typing import Any

import yaml

from imagesets.errors import WrongInput
from orchestrator.planning.recipe import AUTO, Setting

STEPS = 10_000  # the most values of a range
TRUTH = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
READERS: dict[type, Callable[[str], Any]] = {bool: lambda text: TRUTH[text.lower()], int: int, float: float, str: str}
NULL = ("null", "~", "")
KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", list: "a list"}


class Typed(str):
    """A value as it was typed; a text setting keeps it, without YAML's guesses (007 is 7, no is false)."""


def read(name: str, value: Any, setting: Setting) -> Any:
    """`value` in the type of the setting's default, or WrongInput; list elements in the type of the default's first element."""
    if setting.default is None and (value is None or (isinstance(value, str) and value in NULL)):
        return None
    kind = int if setting.default is None else type(setting.default)
    if kind is not list:
        value = _unquoted(name, value)
        return AUTO if setting.auto and value == AUTO else _scalar(name, value, kind, setting)
    if isinstance(value, Typed):
        value = _elements(name, value)
    value = value if isinstance(value, list) else [value]
    return [_scalar(name, _unquoted(name, element), type(setting.default[0]), setting) for element in value]


def as_text(value: Any) -> str:
    """A setting's value in the form that `--set` and a YAML file of settings read."""
    return yaml.safe_dump(value, default_flow_style=True, width=1 << 20).removesuffix("...\n").strip()


def _unquoted(name: str, value: Any) -> Any:
    """The text without its quotes."""
    quoted = isinstance(value, Typed) and len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
    return _yaml(name, value) if quoted else value


def _elements(name: str, text: str) -> list[Any]:
    """The elements of a typed list: [1.0, 0.5], or 1.0,0.5 without blanks in the shell."""
    if not text.startswith("["):
        return [Typed(element.strip()) for element in text.split(",")]
    return _yaml(name, text)


def _yaml(name: str, text: str) -> Any:
    try:
        return _parsed(text)
    except (yaml.YAMLError, RecursionError):
        raise WrongInput(f"{name}={text} cannot be read; a list is written 1.0,0.5, and a text without quotes") from None


@cache  # a table plans hundreds of runs with the same few texts
def _parsed(text: str) -> Any:
    return yaml.load(text, yaml.BaseLoader)  # this loader keeps all scalars as text


def _scalar(name: str, value: Any, kind: type, setting: Setting) -> Any:
    """One value as the type of the example; a real number may be written as a whole number."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    if type(value) is kind:
        return value
    if isinstance(value, str) or (whole and kind in (float, str)):
        try:
            return READERS[kind](value)
        except (ValueError, KeyError):
            pass
    example = 1 if setting.default is None else setting.default
    also = f", or {AUTO}" if setting.auto else ""
    raise WrongInput(f"{name}={str(value)!r} must be {KINDS[type(example)]}, such as {example!r}{also}")


def bounded(name: str, number: Any, setting: Setting) -> None:
    """Raise WrongInput for a number that is not finite or outside the setting's bounds."""
    if not isinstance(number, (int, float)) or isinstance(number, bool):
        return
    if not math.isfinite(number):
        raise WrongInput(f"{name}={number} must be a finite number")
    low, high = setting.minimum, setting.maximum
    if (low is not None and number < low) or (high is not None and number > high):
        least, most = ("" if bound is None else f"{bound:g}" for bound in (low, high))
        allowed = f"between {least} and {most}" if least and most else f"at least {least}" if least else f"at most {most}"
        raise WrongInput(f"{name}={number} must be {allowed}")


def ordered(name: str, values: list[Any], setting: Setting) -> None:
    """Raise WrongInput for an empty list, or one with another length or order than the setting declares."""
    if not values:
        raise WrongInput(f"{name}=[] must hold at least one value, such as {setting.default}")
    if setting.length is not None and len(values) != setting.length:
        raise WrongInput(f"{name}={values} must hold {setting.length} values, such as {setting.default}")
    if setting.order == "ascending" and any(first > second for first, second in pairwise(values)):
        raise WrongInput(f"{name}={values} must ascend, such as {setting.default}")
    if setting.order == "rising" and values != setting.default and any(first >= second for first, second in pairwise(values)):
        raise WrongInput(f"{name}={values} must be rising, such as 0,4095")
    if setting.order == "range":
        start, stop, step = values
        if not (start < stop and step > 0 and (stop - start) / step <= STEPS):
            raise WrongInput(
                f"{name}={values} must be [start, stop, step] with start below stop and a step above 0 that makes at most "
                f"{STEPS} values, such as {setting.default}"
            )
