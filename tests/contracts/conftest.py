"""The laboratories that all contracts share, one for each image set. What a test made is there for all others."""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from tests.contracts.cases import Case
from tests.contracts.images import write_images
from tests.contracts.laboratory import Laboratory, Made

# segmenters that share all but their decoder with deeplabv2 and upernet, which the fast tests run
SLOW = ("deeplabv3plus", "pspnet", "resnet38d")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that run those segmenters as slow."""
    for item in items:
        if "contracts" in item.path.parts and any(f":{name}-" in item.name for name in SLOW):
            item.add_marker(pytest.mark.slow)


def laboratory_in(root: Path, classes: Sequence[str]) -> Laboratory:
    """The laboratory in a folder, whose images another worker may have drawn."""
    images = root / "images"
    if not images.exists():
        own = write_images(root / f"images-{os.getpid()}", classes)
        with suppress(OSError):  # another worker was faster
            own.rename(images)
    return Laboratory(root / "store", images)


@pytest.fixture(scope="session")
def laboratory(shared: Path) -> Laboratory:
    """Two classes, images of odd sizes, some without labels."""
    return laboratory_in(shared / "contracts", ("red", "blue"))


@pytest.fixture(scope="session")
def one_class(shared: Path) -> Laboratory:
    """One class, which half of the images do not show."""
    return laboratory_in(shared / "one", ("red",))


@pytest.fixture(params=["laboratory", "one_class"])
def made(request: pytest.FixtureRequest, case: Case) -> Made:
    """The stage of the module's `case` on either image set."""
    return request.getfixturevalue(request.param).made(case)


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """One thread: results are compared bit by bit, and tests run beside one another."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
