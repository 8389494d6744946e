"""torchvision's models, and timm's, which stand on torchvision; the project imports both libraries only here.

A torchvision built for CUDA cannot load its compiled operators beside a CPU build of torch (a plain
`pip install` from a CPU index may install this pair). Its import then fails: it registers shape rules for two box operators
that are not declared. Our networks do not use these operators, so declaring their signatures is enough.
"""

import importlib
import sys
from types import ModuleType
from typing import Any

import torch

_FAILURE = "operator torchvision::nms does not exist"
_SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_declared: list[torch.library.Library] = []  # torch forgets a declaration when its Library object is freed


def _import_models() -> ModuleType:
    """`torchvision.models`; declares torchvision's missing operators if its import fails for lack of them."""
    try:
        return importlib.import_module("torchvision.models")
    except RuntimeError as error:
        if _FAILURE not in str(error):
            raise
    # the failed import leaves half-loaded submodules behind; a second import would take them as complete
    for name in [name for name in sys.modules if name == "torchvision" or name.startswith("torchvision.")]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "FRAGMENT")
    for operator in ("nms", "qnms"):
        library.define(operator + _SIGNATURE)
    _declared.append(library)
    return importlib.import_module("torchvision.models")


models = _import_models()


def timm_network(name: str, **options: Any) -> Any:
    """The network that timm calls `name`, with timm's options; timm is loaded with the first, which takes a second."""
    return importlib.import_module("timm").create_model(name, **options)
