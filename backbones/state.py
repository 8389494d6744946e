"""State dicts: what of one does not fit a network, said in one phrase, and loading what fits."""

from collections.abc import Mapping

import torch
from torch import nn

from imagesets.errors import WrongInput

State = Mapping[str, torch.Tensor]
COUNTER = "num_batches_tracked"  # of batch norms; older files do not hold it and nothing reads it


def misfits(expected: State, found: State) -> str:
    """What of `found` does not fit `expected`: "2 missing (first: a.weight), 1 unexpected (first: b)"; "" where all fits."""
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
    """Load a state dict into all of a module but the parameters whose names begin with one of `own`.

    Raises WrongInput where it does not fit entry by entry: `told`, and what does not.
    """
    expected = {name: value for name, value in module.state_dict().items() if not name.startswith(own)}
    if wrong := misfits(expected, state):
        raise WrongInput(f"{told}: {wrong}")
    module.load_state_dict(state, strict=False)
