"""Method expressions become the stages that the papers describe."""

import pytest

from imagesets.errors import WrongInput
from orchestrator.planning.components import components
from orchestrator.planning.experiment import Request, experiment
from orchestrator.planning.expression import expand
from orchestrator.planning.recipes import find
from orchestrator.planning.settings import layered
from orchestrator.planning.stage import Stage

SETTINGS = layered(find("shapes", ("images",))[0], [])


def stages(expression: str, segmenter: str = "deeplabv2", **changed: object) -> dict[str, Stage]:
    found = expand(
        components(expression, segmenter), SETTINGS | {name.replace("__", "."): value for name, value in changed.items()}
    )
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


def test_recam_s_network_starts_from_cam_s_and_its_maps_need_one_pass_for_all_weights() -> None:
    plan = stages("recam")
    assert list(plan)[:5] == ["cam-network", "recam-network", "recam-responses", "recam-maps", "recam-maps-score"]
    assert source(plan["recam-network"], "network") == "cam-network"
    assert plan["irn-labels"].settings["maps.confident_foreground"] == 0.35
    readers = {name for name in plan if stages("recam", recam__weights="w")[name].settings != plan[name].settings}
    assert readers == {"recam-maps"}


def test_advcam_climbs_on_the_last_network_with_that_network_s_weights() -> None:
    on_cam, on_recam = stages("advcam+irn"), stages("recam+advcam+irn")
    assert (
        source(on_cam["advcam-maps"], "network") == "cam-network"
        and source(on_recam["advcam-maps"], "network") == "recam-network"
    )
    assert on_cam["advcam-maps"].settings["network.weights"] is None
    assert on_recam["advcam-maps"].settings["network.weights"] == "product"
    assert "recam-maps-score" in on_recam  # nothing reads recam's maps here, and they are scored since it was named


def test_lpcam_on_amn_clusters_amn_s_features() -> None:
    plan = stages("lpcam+amn", lpcam__on="amn")
    assert source(plan["amn-labels"], "maps") == "cam-maps"
    assert source(plan["lpcam-prototypes"], "network") == source(plan["lpcam-maps"], "network") == "amn-network"
    assert source(plan["lpcam-prototypes"], "maps") == "amn-maps"
    assert source(plan["irn-masks"], "maps") == "lpcam-maps"
    with pytest.raises(WrongInput, match=r"lpcam\.on=amn needs amn"):
        stages("lpcam+irn", lpcam__on="amn")


def test_crf_before_irn_hands_it_refined_maps() -> None:
    plan = stages("cam+crf+irn")
    assert source(plan["crf-maps"], "maps") == "cam-maps"
    assert source(plan["irn-labels"], "maps") == source(plan["irn-masks"], "maps") == "crf-maps"
    assert "crf-masks-score" in plan and "crf-maps" not in stages("cam+crf")


def test_crf_after_irn_refines_the_masks_that_irn_made() -> None:
    plan = stages("cam+irn+crf")
    assert source(plan["crf-masks"], "masks") == "irn-masks" and "maps" not in plan["crf-masks"].inputs
    assert source(plan["deeplabv2-segmenter"], "masks") == "crf-masks"
    assert "irn-masks-score" in plan


@pytest.mark.parametrize("before", ["lpcam", "advcam"])
def test_scg_spreads_the_maps_of_the_extractor_before_it_over_the_features_of_the_network(before: str) -> None:
    plan = stages(f"recam+{before}+scg+pamr+irn")
    assert source(plan["scg-maps"], "maps") == f"{before}-maps" and source(plan["scg-maps"], "network") == "recam-network"
    assert source(plan["pamr-maps"], "maps") == "scg-maps" and source(plan["irn-masks"], "maps") == "pamr-maps"
    assert {f"{before}-maps-score", "scg-maps-score", "pamr-masks-score", "irn-masks-score"} <= set(plan)


def test_scg_needs_a_network_on_a_backbone_with_five_taps() -> None:
    assert "scg-maps" in stages("seam+scg", backbone__name="resnet50")
    with pytest.raises(WrongInput, match=r"scg needs five-taps, which backbone.name=resnet38d does not provide"):
        stages("seam+scg", backbone__name="resnet38d")


def test_pamr_alone_cuts_its_maps_and_behind_irn_refines_the_masks() -> None:
    assert source(stages("cam+pamr")["pamr-masks"], "maps") == "cam-maps" and "pamr-maps" not in stages("cam+pamr")
    assert source(stages("cam+irn+pamr")["pamr-masks"], "masks") == "irn-masks"


def test_the_crf_refines_seeds_or_the_maps_themselves() -> None:
    for unary, call in (("labels", "refiners.crf:masks"), ("scores", "refiners.crf:masks_of_scores")):
        assert stages("cam+crf", crf__unary=unary)["crf-masks"].recipe.call == call
    request = Request("cam+crf", "folder:x", "deeplabv2", assignments=("crf.unary=scores",))
    assert "crf.unary" in experiment(request).used  # it reaches no stage, but it chooses one


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


def test_an_extractor_has_the_refiner_of_its_network() -> None:
    assert "affinitynet-masks" in stages("seam+lpcam") and "irn-masks" not in stages("seam+lpcam")
    assert "irn-masks" in stages("lpcam") and "irn-masks" in stages("cam+advcam")


def test_supervised_trains_the_same_segmenter_on_the_official_masks() -> None:
    plan = stages("supervised")
    assert source(plan["deeplabv2-segmenter"], "masks") == "supervised-masks"
    assert plan["supervised-masks"].recipe.truth and not plan["deeplabv2-segmenter"].recipe.truth


@pytest.mark.parametrize(
    ("expression", "sentence"),
    [
        ("lpcan+amn", "did you mean 'lpcam'"),
        ("lpcam+amm", "did you mean 'amn'"),
        ("recam+cam,irn", r"called 'cam,irn'; did you mean 'cam\+irn'"),
        ("cam+supervised", "both of kind network"),
        ("lpcam++amn", "empty part"),
        ("supervised+irn", "irn needs .*maps"),
        ("lpcam+deeplabv2", "no method or refiner called 'deeplabv2'; it belongs to another option: --segmenter deeplabv2"),
        ("cam+upernet-swin", "--segmenter upernet-swin"),
        ("cam+laptop", "--recipe laptop"),
        ("cam+irn+irn", "names irn twice"),
        ("cam+irn+none", "none cannot refine the result of irn; leave one of the two out"),
        ("cam+none+irn", "irn cannot refine the result of none"),
        ("lpcam+advcam", "lpcam and advcam are both of kind extractor"),
        ("mctformer+scg", "scg needs backbone, which the network of mctformer does not provide"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_sentence(expression: str, sentence: str) -> None:
    with pytest.raises(WrongInput, match=sentence):
        stages(expression)


def test_recurseed_s_masks_without_a_refiner_are_what_certain_filter_lets_through() -> None:
    plan = stages("recurseed+none")
    assert list(plan)[:6] == [
        *("recurseed-network", "recurseed-outputs", "recurseed-maps", "recurseed-maps-score"),
        *("none-masks", "none-masks-score"),
    ]
    assert plan["none-masks"].recipe.call == "refiners.threshold:certain_masks"
    assert plan["none-masks"].settings["maps.certain_foreground"] == 0.55
    for other in ("cam+none", "recurseed+lpcam+none"):  # other maps, which CertainFilter's thresholds are not for
        assert stages(other)["none-masks"].recipe.call == "refiners.threshold:masks"


def test_recurseed_s_maps_are_picked_from_one_pass_and_trained_once() -> None:
    plans = {kind: stages("recurseed+irn", recurseed__maps=kind) for kind in ("decoder", "scg", "scg+pamr")}
    for name in ("recurseed-network", "recurseed-outputs"):
        assert plans["decoder"][name].settings == plans["scg"][name].settings == plans["scg+pamr"][name].settings
    last = {kind: source(plan["irn-masks"], "maps") for kind, plan in plans.items()}
    assert last == {"decoder": "recurseed-maps", "scg": "recurseed-maps", "scg+pamr": "recurseed-refined-maps"}


def test_the_layers_of_scg_s_maps_are_not_those_of_its_training_unless_both_are_set() -> None:
    plain, maps, both = stages("recurseed"), stages("recurseed", scg__layers=[5]), stages("recurseed", recurseed__layers=[5])
    assert maps["recurseed-network"].settings == plain["recurseed-network"].settings != both["recurseed-network"].settings
    assert maps["recurseed-outputs"].settings != plain["recurseed-outputs"].settings


@pytest.mark.parametrize(
    ("method", "images", "segmenter", "expected"),
    [
        ("recurseed", "coco14:x", "", "recurseed+none"),
        ("recurseed+irn", "coco14:x", "", "recurseed+irn"),
        ("recurseed", "coco14:x", "own", "recurseed"),
        ("recurseed", "voc12:x", "", "recurseed"),
        ("cam", "coco14:x", "", "cam"),
    ],
)
def test_a_network_has_the_refiners_that_it_was_published_with_on_an_image_set(
    method: str, images: str, segmenter: str, expected: str
) -> None:
    wanted = experiment(Request(method, images, segmenter))
    assert wanted.request.method == expected
    assert ("none-masks" in {stage.name for stage in wanted.stages}) == (expected == "recurseed+none")


# rows of RSEPM's tables 2 to 9 that differ in what they name
@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("recurseed", "recurseed.losses=[cls] recurseed.maps=scg"),
        ("recurseed", "recurseed.losses=[cls] recurseed.maps=scg+pamr"),
        ("recurseed", "recurseed.pamr=false recurseed.maps=scg"),
        ("recurseed", "recurseed.losses=[cls,seg] recurseed.maps=cam"),
        ("recurseed", "recurseed.edge_predict=true"),
        ("recurseed", "recurseed.losses=[cls] recurseed.maps=scg scg.layers=[5,4]"),
        ("recurseed+irn", ""),
        ("recurseed+none", ""),
        ("recurseed+isl+fsl", ""),
    ],
)
@pytest.mark.parametrize("images", ["voc12:x", "coco14:x"])
def test_the_rows_of_recurseed_s_tables_can_be_planned(method: str, settings: str, images: str) -> None:
    found = {stage.name for stage in experiment(Request(method, images, assignments=tuple(settings.split()))).stages}
    assert "recurseed-network" in found and ("recurseed-refined-maps" in found) == ("scg+pamr" in settings)
