"""The layers of CONTRIBUTING: a module imports from lower layers only, and only the orchestrator imports its frameworks."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FRAMEWORKS = {"ray", "mlflow", "typer", "rich"}


def layers(begins: str) -> dict[str, int]:
    """The height of each folder in the line of CONTRIBUTING that begins so; the lowest has the highest number."""
    lines = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").splitlines()
    (line,) = (line.removeprefix(begins) for line in lines if line.startswith(begins))
    return {name: height for height, names in enumerate(line.split(">")) for name in re.findall(r"`(\w+)`", names)}


PACKAGES, FOLDERS = layers("- Layers: "), layers("- Within `orchestrator`: ")


def imported(path: Path) -> Iterator[list[str]]:
    """The parts of every module that a file imports, of a name from a package also those of its module."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ([*(node.module or "").split("."), alias.name] for alias in node.names)


def climbs(heights: dict[str, int], own: str, other: str) -> bool:
    """Whether `own` imports `other`, which is not below it."""
    return own != other and own in heights and heights.get(other, len(heights)) <= heights[own]


@pytest.mark.parametrize("package", PACKAGES)
def test_a_module_imports_from_lower_layers_only(package: str) -> None:
    wrong = []
    for path in (ROOT / package).rglob("*.py"):
        folder = path.relative_to(ROOT / package).parts[0].removesuffix(".py")
        for module in imported(path):
            inside = package == module[0] == "orchestrator" and climbs(FOLDERS, folder, "".join(module[1:2]))
            if climbs(PACKAGES, package, module[0]) or inside or (package != "orchestrator" and module[0] in FRAMEWORKS):
                wrong.append(f"{path.relative_to(ROOT)} imports {'.'.join(module)}")
    assert not wrong
