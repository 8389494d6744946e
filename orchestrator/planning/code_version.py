"""The version of a stage's code: a hash of the syntax trees of its function and of all project code that it refers to.

The code is parsed, never imported, so `plan` stays fast. Docstrings, comments and layout do not count. Each name is
followed to its definition, so an edit in a function re-runs only the stages that use the function. Objects that a function
gets are not followed: the plan adds the class of the items, and what the engine does to networks (`planning.plan`).
"""

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

# the layers below the orchestrator, which decides what runs; a change of what the engine does with results counts by the format
# of the store (`storage.store`)
PACKAGES = ("methods", "refiners", "segmentation", "maps", "training", "imagesets", "backbones", "clustering", "metrics")


def code_version(*references: str) -> str:
    """Hash of all code reachable from "package.module:function" references."""
    found: dict[tuple[str, str], str] = {}
    for reference in references:
        module, _, name = reference.partition(":")
        _follow(module, name, found)
    lines = "\n".join(f"{module}:{name} {tree}" for (module, name), tree in sorted(found.items()))
    return hashlib.blake2b(lines.encode(), digest_size=16).hexdigest()


def sources() -> list[Path]:
    """Every file that a code version may depend on."""
    roots = filter(None, (_source(package) for package in PACKAGES))
    return sorted(path for root in roots for path in root.parent.rglob("*.py"))


def _follow(module: str, name: str, found: dict[tuple[str, str], str]) -> None:
    """Add the definition of `name` in `module` and all it refers to; for an unknown name, the whole module."""
    if (module, name) in found:
        return
    definitions, imports = _contents(module)
    if name in imports:  # re-exported
        _follow_import(imports[name], (), found)
        return
    found[module, name], references = _definition(module, name)
    for root, attributes in references:
        if root in imports:
            _follow_import(imports[root], attributes, found)
        elif root in definitions and root != name:
            _follow(module, root, found)


@cache
def _definition(module: str, name: str) -> tuple[str, tuple[tuple[str, tuple[str, ...]], ...]]:
    """The syntax tree of a definition as text, and the names it uses; for an unknown name, those of the whole module."""
    definitions, _ = _contents(module)
    nodes = [definitions[name]] if name in definitions else list(definitions.values())
    references = {chain for node in nodes for chain in _references(node)}
    return "".join(ast.dump(node) for node in nodes), tuple(sorted(references))


def _follow_import(target: tuple[str, str], attributes: tuple[str, ...], found: dict[tuple[str, str], str]) -> None:
    """Follow an imported name; `target` is (module, name), without a name for a module that is used through attributes."""
    module, name = target
    path = [name, *attributes] if name else list(attributes)
    while path and _source(f"{module}.{path[0]}"):  # the name is a submodule
        module = f"{module}.{path.pop(0)}"
    if _source(module):
        _follow(module, path[0] if path else "*", found)


def _references(node: ast.AST) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Every name used below `node`, with the attributes read from it: `a.b.c` gives ("a", ("b", "c"))."""
    root, attributes = node, list[str]()
    while isinstance(root, ast.Attribute):
        attributes.insert(0, root.attr)
        root = root.value
    if isinstance(root, ast.Name):
        yield root.id, tuple(attributes)
        return
    for child in ast.iter_child_nodes(node):
        yield from _references(child)


@cache
def _contents(module: str) -> tuple[dict[str, ast.AST], dict[str, tuple[str, str]]]:
    """A module's bare top-level definitions by name, and its in-project imports as local name -> target."""
    path = _source(module)
    if path is None:
        return {}, {}
    tree = ast.parse(path.read_text(encoding="utf-8"))
    definitions: dict[str, ast.AST] = {}
    imports: dict[str, tuple[str, str]] = {}
    for node in ast.walk(tree):  # also those inside functions
        if isinstance(node, ast.ImportFrom) and node.module and _in_project(node.module):
            imports |= {alias.asname or alias.name: (node.module, alias.name) for alias in node.names}
        elif isinstance(node, ast.Import):
            for alias in filter(lambda alias: _in_project(alias.name), node.names):
                bound = alias.name if alias.asname else alias.name.split(".")[0]
                imports[alias.asname or bound] = (bound, "")
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            definitions[node.name] = _bare(node)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                definitions |= {part.id: node for part in ast.walk(target) if isinstance(part, ast.Name)}
    return definitions, imports


def _bare(node: ast.FunctionDef | ast.ClassDef) -> ast.AST:
    """A definition without docstrings and imports; imported names are followed, wherever the import is."""
    for part in ast.walk(node):
        if isinstance(part, (ast.FunctionDef, ast.ClassDef)):
            documented = ast.get_docstring(part, clean=False) is not None
            kept = [line for line in part.body[documented:] if not isinstance(line, (ast.Import, ast.ImportFrom))]
            part.body = kept or [ast.Pass()]
    return node


def _in_project(module: str) -> bool:
    return module.split(".")[0] in PACKAGES


@cache
def _source(module: str) -> Path | None:
    """The file of an in-project module, found without importing the module itself."""
    package, *rest = module.split(".")
    spec = find_spec(package) if package in PACKAGES else None
    if spec is None or not spec.submodule_search_locations:
        return None
    path = Path(spec.submodule_search_locations[0]).joinpath(*rest)
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None
