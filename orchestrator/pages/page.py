"""HTML pages that need no network and no other file: their templates, and how numbers are written in them."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

QUANTITIES = {"seed": "Seed", "pseudo": "Pseudo mask", "seg": "Segmentation"}


def template(name: str) -> Template:
    """The template `name` of the folder templates/."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False}  # the order of layers has a meaning
    environment.filters |= {"percent": percent, "seconds": seconds}
    return environment.get_template(name)


def percent(value: float | None) -> str:
    """A fraction in percent with one decimal; a dash where there was nothing to divide by."""
    return "-" if value is None else f"{100 * value:.1f}"


def seconds(value: float) -> str:
    """A time in the two largest of its units: 4.2 s, 3 min 5 s, 2 h 10 min."""
    if value < 59.95:
        return f"{value:.1f} s"
    whole = round(value)
    minutes, hours = whole // 60, whole // 3600
    return f"{minutes} min {whole % 60} s" if not hours else f"{hours} h {minutes % 60} min"
