"""What the references in recipes stand for."""

import importlib
from collections.abc import Callable
from typing import Any


def resolve(reference: str) -> Callable[..., Any]:
    """The function that "package.module:function" names."""
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)
