"""The laboratories that all contracts share, one for each image set. What one test made is there for the next."""

from collections.abc import Iterator

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


@pytest.fixture(scope="session")
def laboratory(tmp_path_factory: pytest.TempPathFactory) -> Laboratory:
    """Two classes, images of odd sizes, some without labels."""
    root = tmp_path_factory.mktemp("contracts")
    return Laboratory(root / "store", write_images(root / "images", ("red", "blue")))


@pytest.fixture(scope="session")
def one_class(tmp_path_factory: pytest.TempPathFactory) -> Laboratory:
    """One class, which half of the images do not show."""
    root = tmp_path_factory.mktemp("one")
    return Laboratory(root / "store", write_images(root / "images", ("red",)))


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
