"""What can follow EDAM and EPS, in either order of the names, and why other things cannot."""

import pytest

from imagesets.errors import WrongInput
from orchestrator.cluster.submission import Submission
from orchestrator.planning.experiment import Request, experiment
from orchestrator.planning.refusals import problems
from orchestrator.planning.stage import Stage


def stages(method: str, *assignments: str) -> dict[str, Stage]:
    return {stage.name: stage for stage in experiment(Request(method, "voc12:x", assignments=assignments)).stages}


@pytest.mark.parametrize(
    "method", ["eps+recam", "edam+lpcam", "edam+recam", "eps+isl+fsl", "eps+advcam", "edam+amn", "eps+lpcam"]
)
def test_the_order_of_names_does_not_matter(method: str) -> None:
    assert stages(method) == stages("+".join(reversed(method.split("+"))))


def test_lpcam_with_edam_is_that_of_cam_with_edam_s_post_processing() -> None:
    plan, plain = stages("edam+lpcam"), stages("cam+lpcam")
    assert plan["edam-network"].recipe == plain["cam-network"].recipe and plan["edam-network"].purpose == "cam-network"
    assert plan["edam-network"].settings == plain["cam-network"].settings  # so the two are one result
    assert plan["saliency-masks"].inputs["maps"].name == "lpcam-maps"
    own = stages("edam+lpcam", "edam.localisation=mask")
    assert own["edam-network"].purpose == "edam-network"
    assert own["lpcam-prototypes"].inputs["network"].name == "edam-network"


@pytest.mark.parametrize(("host", "threshold", "refiner"), [("eps", 0.2, "none"), ("edam", 0.5, "saliency")])
def test_recam_leaves_a_network_its_maps_thresholds_and_refiner(host: str, threshold: float, refiner: str) -> None:
    plan, own = stages(f"{host}+recam"), stages(host)
    assert plan["recam-network"].inputs["network"].name == f"{host}-network"
    assert plan["recam-maps"].recipe.call == own[f"{host}-maps"].recipe.call
    score = plan["recam-maps-score"]
    assert score.settings["maps.seed_threshold"] == threshold and plan[f"{refiner}-masks"].inputs["maps"].name == "recam-maps"
    assert stages("recam")["irn-masks"].inputs["maps"].name == "recam-maps"  # on cam it is irn, as ever


def test_advcam_reads_the_weights_of_eps_behind_recam() -> None:
    assert stages("eps+recam+advcam")["advcam-maps"].settings["network.weights"] is None
    assert stages("recam+advcam")["advcam-maps"].settings["network.weights"] == "product"


@pytest.mark.parametrize(
    ("method", "told"),
    [
        ("edam+advcam", "advcam needs class-weights, which the network of edam does not provide"),
        ("edam+cutmix", "cutmix needs class-logits, which the training of edam does not provide"),
        ("eps+irn", "irn needs five-taps, which backbone.name=resnet38d does not provide"),
        ("edam+scg", "scg needs five-taps, which edam.backbone=resnet38d does not provide"),
        ("seam+recam", "recam needs cam-network, which the network of seam does not provide"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_reason(method: str, told: str) -> None:
    with pytest.raises(WrongInput, match=told):
        stages(method)


def test_a_mixing_that_would_begin_after_the_last_update_is_refused() -> None:
    wanted = experiment(Request("eps+cutmix", "voc12:x", assignments=("cutmix.begin=20", "images.saliency=contrast")))
    (told,) = problems(wanted, wanted.stages, {"train_aug": 10582})
    assert told.startswith("cutmix.begin=20 times the 1322 steps of an epoch must be below eps.iterations=20000")


@pytest.mark.parametrize("given", [{"saliency": "/on/the/cluster"}, {"assign": ["images.saliency=/on/the/cluster"]}])
def test_a_submitted_run_s_saliency_maps_need_not_be_on_this_machine(given: dict[str, object]) -> None:
    values = {
        "method": "eps",
        "images": "voc12:/x",
        "segmenter": "",
        "recipe": "",
        "assign": [],
        "store": "/s",
        "until": "",
        "only": "",
    }
    Submission(("launch",), values | given).check()
    with pytest.raises(WrongInput, match="a cluster needs absolute paths"):
        Submission(("launch",), values | {"saliency": "here"}).check()
    with pytest.raises(WrongInput, match="needs saliency maps"):
        Submission(("launch",), values).check()
