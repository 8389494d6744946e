"""torchvision's models, and the one place from which the project imports torchvision.

A torchvision built for CUDA cannot load its compiled operators beside a CPU build of torch (the pair that a plain
`pip install` from a CPU index may give), and then fails on import: it registers shape rules for two box operators that
nobody declared. No network of ours uses those operators, so declaring their signatures is enough.
"""

import importlib
import sys
from types import ModuleType

import torch

_FAILURE = "operator torchvision::nms does not exist"
_SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_declared: list[torch.library.Library] = []  # torch forgets a declaration when its Library is collected


def _import_models() -> ModuleType:
    """`torchvision.models`, declaring torchvision's missing operators where that is what its import fails for."""
    try:
        return importlib.import_module("torchvision.models")
    except RuntimeError as error:
        if _FAILURE not in str(error):
            raise
    # the failed import leaves submodules behind that a second import would take as complete
    for name in [name for name in sys.modules if name == "torchvision" or name.startswith("torchvision.")]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "FRAGMENT")
    for operator in ("nms", "qnms"):
        library.define(operator + _SIGNATURE)
    _declared.append(library)
    return importlib.import_module("torchvision.models")


models = _import_models()
