"""HTML pages that need no network and no other file: their templates and their number formats."""

from itertools import cycle
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from orchestrator.pages.figures import COLOURS
from orchestrator.planning import scores
from orchestrator.reading.numbers import explained, heading, told
from orchestrator.reading.results import entry
from orchestrator.reading.tables import oracle, threshold
from orchestrator.storage.store import write_atomically


def _template(name: str) -> Template:
    """The template `name` of the folder templates/."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False}  # the order of layers has a meaning
    environment.filters |= {
        "percent": percent,
        "share_or_number": share_or_number,
        "told": told,
        "heading": heading,
        "seconds": seconds,
        "threshold": threshold,
        "oracle": oracle,
        "explained": explained,
    }
    environment.globals |= {
        "scores": scores,
        "hues": dict(zip(scores.quantities(), cycle(COLOURS), strict=False)),
        "entry": entry,
    }
    return environment.get_template(name)


def write(path: Path, name: str, **content: Any) -> None:
    """Write the page that the template `name` makes of `content`."""
    page = _template(name).render(content)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, page.encode())


def percent(value: float | None) -> str:
    """A fraction in percent with one decimal; a dash if it is undefined."""
    return "-" if value is None else f"{100 * value:.1f}"


def share_or_number(value: float | None) -> str:
    """A fraction in percent, or a whole number as it is."""
    return f"{value:,}" if isinstance(value, int) else percent(value)


def seconds(value: float | None) -> str:
    """A time in the two largest of its units: 4.2 s, 3 min 5 s, 2 h 10 min; a dash if it is unknown."""
    if value is None:
        return "-"
    if value < 59.95:
        return f"{value:.1f} s"
    whole = round(value)
    minutes, hours = whole // 60, whole // 3600
    return f"{minutes} min {whole % 60} s" if not hours else f"{hours} h {minutes % 60} min"
