"""Code versions: reachable code counts; layout and comments do not."""

from pathlib import Path

import pytest

from orchestrator.planning import code_version as module

FILES = {
    "methods/__init__.py": "",
    "methods/one.py": (
        "import backbones\nfrom metrics import sums\nfrom metrics.sums import LIMIT\n\n"
        'def call(x):\n    """Says something."""\n    return helper(x) + LIMIT\n\n'
        "def helper(x):\n    return sums.total(x) + backbones.build()  # a comment\n\n"
        "def unrelated():\n    return 0\n"
    ),
    "metrics/__init__.py": "",
    "metrics/sums.py": "LIMIT = 3\n\ndef total(x):\n    return sum(x)\n\ndef other():\n    return 1\n",
    "backbones/__init__.py": "from backbones.build import build\n",
    "backbones/build.py": "def build():\n    return 1\n",
}


@pytest.fixture
def version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A function that gives the version of methods.one:call after replacing text in one file."""

    def source(name: str) -> Path | None:
        path = tmp_path.joinpath(*name.split("."))
        found = [candidate for candidate in (path.with_suffix(".py"), path / "__init__.py") if candidate.is_file()]
        return found[0] if found else None

    monkeypatch.setattr(module, "_source", source)

    def forget() -> None:
        module._contents.cache_clear()
        module._definition.cache_clear()

    def of(file: str = "", old: str = "", new: str = "") -> str:
        for name, text in FILES.items():
            path = tmp_path / name
            path.parent.mkdir(exist_ok=True)
            assert name != file or old in text
            path.write_text(text.replace(old, new) if name == file else text)
        forget()
        return module.code_version("methods.one:call")

    yield of
    forget()


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("methods/one.py", '"""Says something."""', '"""Says it otherwise."""'),
        ("methods/one.py", "# a comment", "# another"),
        ("methods/one.py", "return 0", "return 7"),
        ("metrics/sums.py", "return 1", "return 2"),
        ("methods/one.py", "helper(x) + LIMIT", "(helper(x)\n        + LIMIT)"),
        ("methods/one.py", "    return helper(x)", "    from metrics.sums import LIMIT\n    return helper(x)"),
    ],
)
def test_words_layout_and_unreachable_code_do_not_count(version, file: str, old: str, new: str) -> None:
    assert version(file, old, new) == version()


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("methods/one.py", "helper(x) + LIMIT", "helper(x) - LIMIT"),
        ("methods/one.py", "sums.total(x) +", "sums.total(x) -"),
        ("metrics/sums.py", "LIMIT = 3", "LIMIT = 4"),
        ("metrics/sums.py", "sum(x)", "max(x)"),
        ("backbones/build.py", "return 1", "return 2"),
        (
            "methods/one.py",
            "    return helper(x) + LIMIT",
            "    from metrics.sums import other as helper\n    return helper(x) + LIMIT",
        ),
    ],
)
def test_reachable_code_counts_through_modules_attributes_and_re_exports(version, file: str, old: str, new: str) -> None:
    assert version(file, old, new) != version()
