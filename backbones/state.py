"""State dicts: loading one into a network, and naming in one phrase what does not fit."""

from collections.abc import Mapping

import torch
from torch import nn

from imagesets.errors import WrongInput

State = Mapping[str, torch.Tensor]
COUNTER = "num_batches_tracked"  # counter of batch norms; older files do not have it, and nothing reads it


def unusable(expected: State, found: State) -> str:
    """The first entry of `found` that is no weight where `expected` has one, with the reason, or ""."""
    for name, value in found.items():
        if name in expected and expected[name].is_floating_point():
            if not value.is_floating_point():
                return f"{name} holds {value.dtype} in place of {expected[name].dtype}".replace("torch.", "")
            if not value.isfinite().all():
                return f"{name} holds values that are not finite"
    return ""


def misfits(expected: State, found: State) -> str:
    """What in `found` does not fit `expected`, such as "2 missing (first: a.weight), 1 unexpected (first: b)", or ""."""
    wrong = {
        "missing": [name for name in expected if name not in found and not name.endswith(COUNTER)],
        "unexpected": [name for name in found if name not in expected],
        "of another shape": [
            f"{name} {list(found[name].shape)} for {list(value.shape)}"
            for name, value in expected.items()
            if name in found and found[name].shape != value.shape
        ],
    }
    return ", ".join(f"{len(names)} {what} (first: {names[0]})" for what, names in wrong.items() if names)


def load_state(module: nn.Module, state: State, told: str, own: tuple[str, ...] = ()) -> None:
    """Load a state dict into a module, except parameters whose names begin with one of `own`.

    Raises WrongInput if an entry does not fit; the message is `told` and the entries that do not fit.
    """
    expected = {name: value for name, value in module.state_dict().items() if not name.startswith(own)}
    if wrong := misfits(expected, state):
        raise WrongInput(f"{told}: {wrong}")
    module.load_state_dict(state, strict=False)
