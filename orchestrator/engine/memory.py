"""Out of memory, in one sentence: which stage, and which settings to lower.

It comes as Ray's memory monitor, which stops a worker before the node is full, or as an allocation that fails.
"""

import torch

from imagesets.errors import WrongInput
from orchestrator.planning.recipes import load_all
from orchestrator.planning.stage import Stage

SIGNS = ("low on memory", "OUT_OF_MEMORY", "out of memory", "can't allocate memory", "not enough memory", "MemoryError")


def ran_out(error: BaseException) -> bool:
    """Whether an error, or what a worker was lost to, is a lack of memory."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(sign in str(error) for sign in SIGNS)


def out_of_memory(name: str, stage: Stage, error: BaseException) -> WrongInput:
    """What a person is told of a stage called `name` that ran out of memory."""
    own = [f"{stage.component}.{setting}" for setting in load_all()[stage.component].memory if setting in stage.settings]
    if stage.recipe.kind == "train":
        also = "training.workers or training.loaders, or give it a machine with more"
    else:
        also = "how many run at once (`ray start --num-cpus`, or --engine local for one), or give it a machine with more"
    kept = "what is done is kept, and the same command continues"
    return WrongInput(f"out of memory in {name}: lower {', '.join([*own, also])}; {kept} ({' '.join(str(error).split())[:300]})")
