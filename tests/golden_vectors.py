"""Reads golden vectors."""

from pathlib import Path

import numpy as np
import torch


def golden(name: str) -> dict[str, torch.Tensor]:
    """The arrays of `golden/name.npz` as tensors."""
    with np.load(Path(__file__).parent / "golden" / f"{name}.npz") as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays.files}
