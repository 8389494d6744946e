"""The functions that references in recipes name."""

import importlib
from collections.abc import Callable
from typing import Any


def resolve(reference: str) -> Callable[..., Any]:
    """The function that "package.module:function" names."""
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)
