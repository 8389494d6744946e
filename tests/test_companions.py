"""Companions: which defaults a component gives to another's settings, what wins over them, how they are told and refused."""

from pathlib import Path

import pytest

from imagesets.errors import WrongInput
from orchestrator.planning import recipes
from orchestrator.planning.companions import given
from orchestrator.planning.components import components
from orchestrator.planning.experiment import Request, experiment, from_companions
from tests.conftest import Command

NETWORK = """
    name: {name}
    kind: network
    title: A network with companions
    default_refiners: [irn]
    companions: {{{companions}}}
    settings:
      seed_threshold: {{default: 0.3}}
      confident_foreground: {{default: 0.4}}
      confident_background: {{default: 0.2}}
      walk_background: {{default: 0.3}}
      walk_power: {{default: 1.0}}
    stages:
      - {{name: network, kind: train, call: "methods.cam:training", network: "methods.cam:network", writes: network,
         provides: [score-map, backbone, features]}}
      - {{name: maps, call: "methods.cam:maps", reads: [network], writes: maps, scored: seed}}
    """
TOYS = {
    "giving": NETWORK.format(
        name="giving",
        companions="sharp: {weight: 0.1}, irn: {beta: 7}, crf: {parameters: seam}, backbone: {name: resnet101}, cam: {epochs: 2}",
    ),
    "silent": NETWORK.format(name="silent", companions=""),
    "sharp": """
        name: sharp
        kind: addon
        title: A loss
        settings: {weight: {default: 0.5, minimum: 0}}
        companions: {irn: {beta: 3.0, exp_times: 4}}
        published_settings: {voc12: {weight: 0.2}}
        adds: {call: "methods.cam:build", settings: [weight], requires: [score-map]}
        """,
}

pytestmark = pytest.mark.usefixtures("own_recipes")


def settings(method: str, *assignments: str, images: str = "folder:x", recipe: str = "") -> dict:
    return dict(experiment(Request(method, images, recipe=recipe, assignments=assignments)).settings)


def test_a_component_gives_defaults_to_those_that_are_there_with_it() -> None:
    with_it, without = settings("giving+sharp"), settings("silent")
    assert (with_it["sharp.weight"], with_it["irn.beta"], with_it["crf.parameters"]) == (0.1, 7.0, "seam")
    assert with_it["backbone.name"] == "resnet101"  # settings of the shared recipes are there in every run
    assert (without["irn.beta"], without["crf.parameters"], without["backbone.name"]) == (10.0, "irn-labels", "resnet50")
    assert with_it["cam.epochs"] == 5  # cam is not in the expression
    assert settings("giving+none")["irn.beta"] == 10.0


def test_an_add_on_takes_defaults_of_its_own_network_alone() -> None:
    assert settings("giving+amn")["irn.beta"] == 7.0
    chain = components("silent+sharp", "deeplabv2")
    assert given(chain) == {"irn.beta": (3.0, "sharp"), "irn.exp_times": (4, "sharp")}
    assert "sharp.weight" not in given(components("giving+amn+sharp", "deeplabv2"))


def test_a_network_wins_over_its_add_ons() -> None:
    found = settings("giving+sharp")
    assert (found["irn.beta"], found["irn.exp_times"]) == (7.0, 4)


def test_an_image_set_a_preset_and_the_user_win_over_companions(tmp_path: Path) -> None:
    preset = tmp_path / "own.yaml"
    preset.write_text("irn.beta: 5\n")
    assert settings("giving+sharp", images="voc12:x")["sharp.weight"] == 0.2
    assert settings("giving", recipe=str(preset))["irn.beta"] == 5.0
    assert settings("giving", "irn.beta=6", recipe=str(preset))["irn.beta"] == 6.0
    assert settings("giving", images="shapes")["backbone.name"] == "small"


def test_what_a_companion_gives_is_told_where_it_counts(command: Command) -> None:
    def told(method: str, *assignments: str) -> set[str]:
        return set(from_companions(experiment(Request(method, "folder:x", assignments=assignments))))

    assert "irn.beta=7.0 is the default that giving gives" in told("giving+sharp")
    assert "irn.exp_times=4 is the default that sharp gives" in told("giving+sharp")
    assert not any("irn.beta" in sentence for sentence in told("giving+sharp", "irn.beta=7"))
    assert not told("silent")
    _, shown, _ = command("launch", "--method", "giving+sharp", "--plan")
    assert "note: irn.beta=7.0 is the default that giving gives" in shown


def test_show_tells_what_a_component_gives_and_is_given(command: Command) -> None:
    assert "gives irn the defaults irn.beta=3.0, irn.exp_times=4" in command("show", "sharp")[1]
    shown = " ".join(command("show", "irn")[1].split())
    assert "defaults with giving: irn.beta=7" in shown and "defaults with sharp: irn.beta=3.0, irn.exp_times=4" in shown


def test_no_other_key_changes() -> None:
    plain, changed = (experiment(Request(method, "folder:x")) for method in ("silent", "silent+sharp"))
    differing = {one.name for one, other in zip(plain.stages, changed.stages, strict=True) if one.settings != other.settings}
    assert differing == {"silent-network", "irn-masks"}


@pytest.mark.parametrize(
    ("companions", "said"),
    [
        ("irm: {beta: 7}", "recipe giving.yaml gives companions to 'irm', which is no other component; did you mean 'irn'"),
        ("giving: {walk_power: 2}", "to 'giving', which is no other component"),
        ("laptop: {beta: 7}", "to 'laptop', which is no other component"),
        ("irn: {bta: 7}", "recipe giving.yaml gives companions to irn, which has no setting 'bta'; did you mean 'beta'"),
        ("irn: {beta: 0}", "recipe giving.yaml gives companions to irn: irn.beta=0.0 must be at least 0.1"),
        ("crf: {parameters: sean}", "crf.parameters=sean is not one of"),
    ],
)
def test_a_wrong_companion_is_refused_whatever_runs(companions: str, said: str) -> None:
    folder = Path(recipes.package.__file__).parent
    (folder / "giving.yaml").write_text(NETWORK.format(name="giving", companions=companions))
    recipes.load_all.cache_clear()
    with pytest.raises(WrongInput, match=said):
        settings("cam")
