"""Random numbers derived from their purpose, never carried along: a resumed run draws the same numbers as an undisturbed one."""

import hashlib

import numpy as np
import torch


def seed_of(*purpose: object) -> int:
    """A 63-bit integer that depends on every part of `purpose` and on nothing else."""
    text = "\x1f".join(str(part) for part in purpose)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> 1


def generator(*purpose: object) -> np.random.Generator:
    """A NumPy generator for one purpose, e.g. (random_seed, "cam-network", "sample", epoch, place)."""
    return np.random.default_rng(seed_of(*purpose))


def seed_torch(*purpose: object) -> None:
    """Seed torch's global generator (weights, dropout) for one purpose."""
    torch.manual_seed(seed_of(*purpose))
