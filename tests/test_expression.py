"""Method expressions fold into the stages that the papers describe."""

import pytest

from imagesets.errors import WrongInput
from orchestrator.expression import Stage, components, expand
from orchestrator.recipes import find
from orchestrator.settings import resolve

SETTINGS = resolve(find("shapes", ("images",))[0], [])


def stages(expression: str, segmenter: str = "deeplabv2") -> dict[str, Stage]:
    found = expand(components(expression, segmenter), SETTINGS)
    assert len({stage.name for stage in found}) == len(found)
    return {stage.name: stage for stage in found}


def source(stage: Stage, word: str) -> str:
    return stage.inputs[word].name


def test_lpcam_amn_is_wired_as_designed() -> None:
    plan = stages("lpcam+amn")
    assert list(plan) == [
        *("cam-network", "cam-maps", "lpcam-prototypes", "lpcam-maps", "lpcam-maps-score"),
        *("amn-labels", "amn-network", "amn-maps", "amn-maps-score"),
        *("irn-labels", "irn-network", "irn-masks", "irn-masks-score"),
        *("deeplabv2-segmenter", "deeplabv2-predictions", "deeplabv2-predictions-score"),
    ]
    assert source(plan["amn-labels"], "maps") == "lpcam-maps"
    assert source(plan["irn-labels"], "maps") == source(plan["irn-masks"], "maps") == "amn-maps"
    assert source(plan["deeplabv2-segmenter"], "masks") == "irn-masks"


def test_thresholds_come_from_whoever_wrote_the_maps() -> None:
    plan = stages("lpcam+amn")
    assert plan["amn-labels"].settings["maps.confident_foreground"] == 0.45
    assert plan["amn-labels"].settings["maps.confident_background"] == 0.25
    assert plan["irn-labels"].settings["maps.confident_background"] == 0.15
    assert plan["irn-masks"].settings["maps.walk_power"] == 1.3
    assert stages("cam+irn")["irn-labels"].settings["maps.confident_foreground"] == 0.30


def test_cam_irn_shares_its_network_with_lpcam_irn() -> None:
    assert stages("cam+irn")["cam-network"] == stages("lpcam+irn")["cam-network"]


def test_stages_that_nobody_reads_are_pruned() -> None:
    assert "cam-maps" not in stages("supervised")
    assert "irn-labels" not in stages("cam+none")
    assert "cam-maps-score" not in stages("lpcam+irn")


def test_the_default_refiner_is_the_method_s_own_and_none_switches_it_off() -> None:
    assert list(stages("lpcam")) == list(stages("lpcam+irn"))
    assert "none-masks" in stages("lpcam+none")


def test_supervised_trains_the_same_segmenter_on_the_official_masks() -> None:
    plan = stages("supervised")
    assert source(plan["deeplabv2-segmenter"], "masks") == "supervised-masks"
    assert plan["supervised-masks"].recipe.truth and not plan["deeplabv2-segmenter"].recipe.truth


@pytest.mark.parametrize(
    ("expression", "sentence"),
    [
        ("lpcan+amn", "did you mean 'lpcam'"),
        ("lpcam+amm", "did you mean 'amn'"),
        ("cam+supervised", "both of kind network"),
        ("lpcam++amn", "empty part"),
        ("supervised+irn", "irn needs .*maps"),
        ("lpcam+deeplabv2", "no method or refiner called 'deeplabv2'"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_sentence(expression: str, sentence: str) -> None:
    with pytest.raises(WrongInput, match=sentence):
        stages(expression)
