"""The points of a running training that MLflow gets, from the notes of its progress. Imports no MLflow."""

from collections.abc import Iterator, Mapping
from typing import Any

from orchestrator.tracking.logged import allowed

Note = Mapping[str, Any]  # what `orchestrator.engine.training_work` writes


def points(stage: str, note: Note, before: Note | None) -> Iterator[tuple[str, float, int, int]]:
    """Name, value, milliseconds and training step: the losses, the learning rates, and the images per second since `before`.

    A note that is read again gives the same points, which MLflow recognises.
    """
    moment, step = int(note["at"] * 1000), int(note["step"])
    values = dict(note["losses"]) | _rates(note["rates"])
    if before and note["at"] > before["at"] and note["images"] > before["images"]:
        values["images_per_second"] = (note["images"] - before["images"]) / (note["at"] - before["at"])
    for name, value in values.items():
        yield allowed(f"training.{stage}/{name}"), float(value), moment, step


def _rates(rates: list[float]) -> dict[str, float]:
    """The different learning rates of a training, the smallest first."""
    if len(rates) == 1:
        return {"learning_rate": rates[0]}
    return {f"learning_rate.{number}": rate for number, rate in enumerate(rates, start=1)}
