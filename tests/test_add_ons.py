"""Add-ons, mixings and capabilities: which trainings they wrap, which keys they are part of, what is refused beforehand."""

from pathlib import Path

import pytest

from imagesets.errors import WrongInput
from orchestrator.cli import complete
from orchestrator.engine.failures import out_of_memory
from orchestrator.planning import recipes
from orchestrator.planning.components import components
from orchestrator.planning.expression import expand
from orchestrator.planning.published import published
from orchestrator.planning.settings import layered
from orchestrator.planning.stage import Stage
from tests.conftest import Command

TOYS = {
    "twohead": """
        name: twohead
        kind: network
        title: A single-stage network
        default_refiners: [irn]
        settings:
          weights: {default: 1.0}
          seed_threshold: {default: 0.3}
          confident_foreground: {default: 0.4}
          confident_background: {default: 0.2}
          walk_background: {default: 0.3}
          walk_power: {default: 1.0}
        stages:
          - {name: first, kind: train, call: "methods.cam:training", network: "methods.cam:network",
             writes: network, provides: [toy-map]}
          - {name: network, kind: train, call: "methods.cam:training", network: "methods.cam:network", reads: [network],
             writes: network, provides: [toy-map, decoder]}
          - {name: maps, call: "methods.cam:maps", reads: [network], writes: maps, scored: seed}
        """,
    "sharp": """
        name: sharp
        kind: addon
        title: A loss
        settings: {weight: {default: 0.5, minimum: 0}}
        memory: [weight]
        adds: {call: "methods.cam:build", settings: [weight], requires: [toy-map]}
        published:
          - {images: voc12, metric: seed.miou/train, value: 51.5, with: twohead, source: Table 1}
        """,
    "painted": """
        name: painted
        kind: network
        title: A network whose maps have a background of their own
        default_refiners: [none]
        stages:
          - {name: network, kind: train, call: "methods.cam:training", network: "methods.cam:network", writes: network}
          - {name: maps, call: "methods.cam:maps", reads: [network], writes: maps, provides: [background], scored: seed}
        """,
    "plain-net": """
        name: plain-net
        kind: backbone
        title: A backbone with five taps and no dilation
        provides: [five-taps]
        table: {plain: "backbones.resnet:small"}
        """,
    "banked": """
        name: banked
        kind: mixing
        title: A mixing with a bank of objects
        settings: {size: {default: 10}}
        adds: {call: "methods.cam:build", reads: [bank]}
        stages:
          - {name: bank, call: "methods.cam:maps", writes: bank, settings: [size]}
        """,
}


pytestmark = pytest.mark.usefixtures("own_recipes")


def stages(expression: str, segmenter: str = "deeplabv2", **backbones: str) -> dict[str, Stage]:
    changed = {f"{owner}.{'backbone' if owner == segmenter else 'name'}": name for owner, name in backbones.items()}
    settings = layered(recipes.find("shapes", ("images",))[0], [changed])
    return {stage.name: stage for stage in expand(components(expression, segmenter), settings)}


def test_an_add_on_wraps_every_training_of_the_network_and_its_settings_are_theirs_alone() -> None:
    plain, sharp = stages("twohead"), stages("twohead+sharp")
    assert list(plain) == list(sharp)  # it adds no stage
    wrapped = {name for name in sharp if sharp[name].settings != plain[name].settings}
    assert wrapped == {"twohead-first", "twohead-network"} == {name for name in sharp if sharp[name].add_ons}
    assert sharp["twohead-network"].settings["sharp.weight"] == 0.5
    assert sharp["twohead-network"].components == {"twohead", "sharp"}


def test_an_add_on_belongs_to_the_network_that_is_written_before_it() -> None:
    on_amn, on_cam = stages("amn+banked"), stages("banked+amn")
    assert on_amn["amn-network"].add_ons and not on_amn["cam-network"].add_ons
    assert on_cam["cam-network"].add_ons and not on_cam["amn-network"].add_ons


def test_an_add_on_after_what_trains_no_network_belongs_to_the_network_before_it() -> None:
    assert stages("cam+irn+banked")["cam-network"].add_ons.keys() == {"banked"}


def test_a_mixing_may_bring_a_stage_that_the_training_reads() -> None:
    plan = stages("twohead+sharp+banked")
    assert list(plan)[:2] == ["banked-bank", "twohead-first"]
    assert all(plan[name].inputs["bank"].name == "banked-bank" for name in ("twohead-first", "twohead-network"))
    assert list(plan["twohead-network"].add_ons) == ["sharp", "banked"]


def test_a_figure_is_published_for_exactly_the_add_ons_it_names() -> None:
    figure = published("voc12", "seed.miou/train", stages("twohead+sharp")["twohead-network"].components)
    assert figure and figure.value == 51.5
    assert published("voc12", "seed.miou/train", ["twohead"]) is None


def test_add_ons_are_listed_and_completed_with_the_methods(command: Command) -> None:
    code, shown, _ = command("ls", "sharp")
    assert code == 0 and "addon" in shown
    code, shown, _ = command("show", "sharp")
    assert code == 0 and "adds to the training of the network before it; needs a network with toy-map" in shown
    assert "needs bank" in command("show", "banked")[1]
    assert complete.methods("twohead+sh") == ["twohead+sharp"] and "banked" in complete.methods("")


def test_a_decoder_is_scored_as_the_segmenter_without_any_refiner() -> None:
    assert list(stages("twohead", "own")) == [
        *("twohead-first", "twohead-network", "twohead-maps", "twohead-maps-score"),
        *("own-predictions", "own-predictions-score"),
    ]
    assert "irn-masks-score" in stages("twohead+irn", "own") and "irn-masks" not in stages("twohead", "own")


def test_maps_with_a_background_of_their_own_need_no_threshold_and_maps_of_other_programs_do(tmp_path: Path) -> None:
    plan = stages("painted")
    assert (
        plan["none-masks"].settings["maps.seed_threshold"] is plan["painted-maps-score"].settings["maps.seed_threshold"] is None
    )
    imported = layered(recipes.find("shapes", ("images",))[0], [{"imported.maps": str(tmp_path)}])
    with pytest.raises(WrongInput, match="they hold no background, and painted has no setting 'seed_threshold'"):
        expand(components("painted", "deeplabv2"), imported)


def test_a_backbone_that_lacks_what_a_stage_requires_is_refused_with_the_setting_that_names_it() -> None:
    with pytest.raises(WrongInput, match=r"deeplabv2 needs dilation, which deeplabv2\.backbone=plain does not provide"):
        stages("cam", deeplabv2="plain")
    assert "irn-network" in stages("cam", backbone="plain")


@pytest.mark.parametrize(
    ("expression", "segmenter", "sentence"),
    [
        ("sharp", "deeplabv2", "sharp needs toy-map, which the training of cam does not provide; it provides score-map"),
        ("twohead+amn+sharp", "deeplabv2", "sharp needs toy-map, which the training of amn does not provide"),
        ("twohead+lpcam", "deeplabv2", "lpcam needs features and class-probability, which the network of twohead does not"),
        ("twohead+advcam", "deeplabv2", "advcam needs features and class-weights, which the network of twohead"),
        ("cam", "own", "own needs decoder, which the network of cam does not provide"),
        ("twohead+sharpp", "deeplabv2", "did you mean 'sharp'"),
        ("twohead+sharp+sharp", "deeplabv2", "names sharp twice"),
        ("supervised+banked", "deeplabv2", "banked has no part in this run"),
    ],
)
def test_what_a_network_cannot_carry_is_refused_in_a_sentence(expression: str, segmenter: str, sentence: str) -> None:
    with pytest.raises(WrongInput, match=sentence):
        stages(expression, segmenter)


def test_advice_on_memory_names_the_settings_of_what_adds_to_a_training() -> None:
    trained = stages("twohead+sharp")["twohead-network"]
    assert "lower sharp.weight, training.workers" in str(out_of_memory("it", trained, MemoryError()))
    assert "sharp" not in str(out_of_memory("it", stages("twohead+sharp")["twohead-maps"], MemoryError()))
