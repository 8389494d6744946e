"""Files that would run code when they are read: they are refused with one sentence, and their code does not run."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import Command, write_image_set
from tests.launching import TINY


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, witness: Path):
        self.witness = witness

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.witness),)


def as_object(payload: Payload) -> np.ndarray:
    array = np.empty((), dtype=object)
    array[()] = payload
    return array


def pickled(payload: Payload, path: Path) -> None:
    path.write_bytes(pickle.dumps(payload))


def old_state(payload: Payload, path: Path) -> None:
    torch.save({"weight": torch.zeros(2), "more": payload}, path, _use_new_zipfile_serialization=False)


WEIGHTS: dict[str, Callable[[Payload, Path], None]] = {
    "torch.save": lambda payload, path: torch.save({"weight": payload}, path),
    "torch.save of before 1.6": old_state,
    "pickle": pickled,
}
MAPS: dict[str, tuple[str, Callable[[Payload, Path], None]]] = {
    "npy": (".npy", lambda payload, path: np.save(path, as_object(payload), allow_pickle=True)),  # type: ignore[arg-type]
    "npz": (".npz", lambda payload, path: np.savez(path, keys=as_object(payload))),  # type: ignore[arg-type]
    "pickle": (".npy", pickled),
}


@pytest.fixture
def payload(tmp_path: Path) -> Payload:
    """A payload that was tried and runs; its folder is removed again."""
    made = Payload(tmp_path / "witness")
    pickle.loads(pickle.dumps(made))
    made.witness.rmdir()  # fails where the payload does not run
    return made


def refused(command: Command, tmp_path: Path, payload: Payload, *options: object) -> str:
    """The sentence with which a launch refuses the file."""
    images = write_image_set(tmp_path / "images")
    words = ("--method", "cam+none", "--images", f"folder:{images}", "--segmenter", "deeplabv2-small", "--recipe", TINY)
    code, _, errors = command("launch", *words, "--set", "deeplabv2.batch=2", "--engine", "local", "--track", "none", *options)
    assert code == 2 and errors.startswith("error: ") and "Traceback" not in errors, errors
    assert not payload.witness.exists()
    return errors


@pytest.mark.parametrize("form", WEIGHTS)
@pytest.mark.parametrize("option", ["--set", "--network-from"])
def test_weights_that_would_run_code_are_refused(
    command: Command, tmp_path: Path, payload: Payload, form: str, option: str
) -> None:
    path = tmp_path / "weights.pth"
    WEIGHTS[form](payload, path)
    given = f"backbone.weights={path}" if option == "--set" else path
    said = refused(command, tmp_path, payload, option, given)
    assert str(path) in said and "plain torch state dict" in said


@pytest.mark.parametrize("form", MAPS)
def test_maps_that_would_run_code_are_refused(command: Command, tmp_path: Path, payload: Payload, form: str) -> None:
    suffix, write = MAPS[form]
    (tmp_path / "maps").mkdir()
    for number in range(6):
        write(payload, tmp_path / "maps" / f"train_{number}{suffix}")
    said = refused(command, tmp_path, payload, "--maps-from", tmp_path / "maps")
    assert f"train_0{suffix}" in said and "(and 5 more of the kind: train_1, train_2, train_3, ...)" in said
