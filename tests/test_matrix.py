"""The table of what goes together: it is what expanding finds, and the page of it is up to date."""

from pathlib import Path

import pytest

from imagesets.errors import WrongInput
from orchestrator.planning.experiment import Request, experiment
from orchestrator.planning.matrix import Verdict, chains, networks, verdict
from orchestrator.reading.matrix_page import page

PAGE = Path(__file__).parent.parent / "docs/matrix.md"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "make matrix writes it anew"


def test_a_reason_is_that_of_a_launch() -> None:
    with pytest.raises(WrongInput) as refused:
        experiment(Request("seam+recam+irn", "voc12:"))
    assert str(refused.value).startswith("recam needs cam-network, which the network of seam does not provide")
    assert verdict("seam", "recam", "irn") == Verdict("recam needs cam-network, which the network does not provide")
    assert not verdict("cam", "recam", "irn").why


def test_what_only_a_backbone_prevents_is_told_with_the_setting() -> None:
    found = verdict("seam", "irn")
    assert found.way == "backbone.name=resnet50" and "irn needs five-taps" in found.why
    experiment(Request("seam+irn", "voc12:", assignments=(found.way,)))


def test_networks_without_maps_are_left_out_and_extractors_go_on_from_others() -> None:
    assert "supervised" not in networks() and networks()[0] == "cam"
    assert {"", "scg", "lpcam+scg", "recam+advcam+scg"} <= set(chains()) and "advcam+lpcam" not in set(chains())
