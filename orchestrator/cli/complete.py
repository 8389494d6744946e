"""Completion in a shell: methods, settings, image sets, segmenters, presets and runs, from the recipes and the store."""

from collections.abc import Iterable

from orchestrator.planning.recipe import ADD_ONS, AUTO, FOLD_ORDER, Setting
from orchestrator.planning.recipes import allowed, load_all
from orchestrator.storage.place import STORE


def methods(incomplete: str) -> list[str]:
    """The last word of an expression."""
    done, plus, word = incomplete.rpartition("+")
    kinds = {*FOLD_ORDER, *ADD_ONS} - {"segmenter"}
    return [f"{done}{plus}{name}" for name in _names(kinds) if name.startswith(word)]


def segmenters(incomplete: str) -> list[str]:
    """Segmenters and their variants."""
    return [name for name in _names(["segmenter"]) if name.startswith(incomplete)]


def image_sets(incomplete: str) -> list[str]:
    """Kinds of image sets, with the colon before a path."""
    known = load_all()
    names = [name if known[name].make else f"{name}:" for name in _names(["images"])]
    return [name for name in names if name.startswith(incomplete)]


def presets(incomplete: str) -> list[str]:
    """Presets of the package; the shell completes paths."""
    return [name for name in _names(["preset"]) if name.startswith(incomplete)]


def settings(incomplete: str) -> list[str]:
    """Setting names up to the equals sign, then the values of a setting that has choices."""
    name, equals, value = incomplete.partition("=")
    known = dict(_settings())
    if not equals:
        return [f"{setting}=" for setting in known if setting.startswith(name)]
    return [f"{name}={choice}" for choice in _choices(known.get(name)) if choice.startswith(value)]


def tables(incomplete: str) -> list[str]:
    """Ids of the papers' tables."""
    from orchestrator.tables.catalogue import ids  # reads all tables

    return [name for name in ids() if name.startswith(incomplete)]


def runs(incomplete: str) -> list[str]:
    """Runs and sweeps of the store in the working directory."""
    return sorted(path.name for kind in ("runs", "sweeps") for path in (STORE / kind).glob(f"{incomplete}*"))


def _names(kinds: Iterable[str]) -> list[str]:
    return sorted(name for recipe in load_all().values() if recipe.kind in kinds for name in recipe.named)


def _settings() -> Iterable[tuple[str, Setting]]:
    for recipe in load_all().values():
        if recipe.kind != "preset":
            for name, setting in recipe.settings.items():
                yield f"{recipe.prefix}.{name}", setting


def _choices(setting: Setting | None) -> list[str]:
    if setting is None:
        return []
    if isinstance(setting.default, bool):
        return ["true", "false"]
    return [AUTO] if setting.auto else [str(choice) for choice in allowed(setting)]
