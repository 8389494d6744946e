"""The orchestrator. In Python: `from orchestrator import Segmenter, Results, launch`."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.afterwards.results import Results as Results
    from orchestrator.afterwards.segmenter import Segmenter as Segmenter
    from orchestrator.notebook import launch as launch

_WHERE = {
    "Segmenter": "orchestrator.afterwards.segmenter",
    "Results": "orchestrator.afterwards.results",
    "launch": "orchestrator.notebook",
}


def __getattr__(name: str) -> Any:
    """The names of the Python front door, imported when they are first read: they load torch, and commands must start at once."""
    if name not in _WHERE:
        raise AttributeError(f"module 'orchestrator' has no attribute {name!r}")
    return getattr(import_module(_WHERE[name]), name)
