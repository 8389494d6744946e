"""A plan on a small image set, for tests of what a plan refuses and tells."""

from pathlib import Path
from typing import Any

from orchestrator.planning.experiment import Request, experiment
from orchestrator.planning.images import open_images
from orchestrator.planning.prepared import Prepared, prepare

PLAIN = ("backbone.weights=none", "cam.batch=4", "irn.batch=4", "deeplabv2.batch=4")


def planned(images: Path, *assignments: str, method: str = "cam+irn", **asked: Any) -> Prepared:
    """A plan in a store beside the images, on a cluster with two cores."""
    given = (*PLAIN, *assignments)
    defaults = {"segmenter": "deeplabv2-small", "store": images.parent / "store", "cluster": True, "room": 2}
    request = Request(method, f"folder:{images}", assignments=given, **{**defaults, **asked})
    wanted = experiment(request)
    opened = open_images(request.images, wanted.settings, request.store, make=False)
    assert opened is not None
    return prepare(wanted, opened)
