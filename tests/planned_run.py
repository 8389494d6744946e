"""Plans of what a request asks for, and one on a small image set, for tests of what a plan refuses and tells."""

from pathlib import Path
from typing import Any

from orchestrator.planning.experiment import Request, experiment
from orchestrator.planning.prepared import Prepared, open_images_of, prepare

PLAIN = ("backbone.weights=none", "cam.batch=4", "irn.batch=4", "deeplabv2.batch=4")


def plan_of(request: Request, make: bool = False) -> Prepared:
    """The plan of a request, whose images are there, or are made with `make`."""
    wanted = experiment(request)
    images = open_images_of(wanted, make)
    assert images is not None
    return prepare(wanted, images)


def planned(images: Path, *assignments: str, method: str = "cam+irn", **asked: Any) -> Prepared:
    """A plan in a store beside the images, on a cluster with two cores."""
    given = (*PLAIN, *assignments)
    defaults = {"segmenter": "deeplabv2-small", "store": images.parent / "store", "cluster": True, "room": 2}
    return plan_of(Request(method, f"folder:{images}", assignments=given, **{**defaults, **asked}))
