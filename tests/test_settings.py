"""Settings: what is wrong is said at once, with the nearest right spelling."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagesets.errors import WrongInput
from orchestrator.planning.recipes import Setting, find, load_all
from orchestrator.planning.settings import checked, declared, parse_assignments, resolve

SHAPES = find("shapes", ("images",))[0]


def test_an_unknown_setting_names_the_nearest() -> None:
    with pytest.raises(WrongInput, match=r"did you mean 'cam.epochs'"):
        resolve(SHAPES, [{"cam.epoch": 3}])


def test_an_unknown_component_names_the_nearest() -> None:
    with pytest.raises(WrongInput, match="did you mean 'lpcam'"):
        find("lpcan", ("extractor",))


def test_every_problem_is_reported_in_one_go() -> None:
    with pytest.raises(WrongInput) as caught:
        resolve(SHAPES, [{"cam.epoch": 3, "cam.batch": 0, "cam.lr": "fast", "cam.optimiser": "adagrad"}])
    for part in ("cam.epoch'", "cam.batch=0", "cam.lr='fast'", "cam.optimiser=adagrad is not one of"):
        assert part in str(caught.value)


def test_later_layers_win() -> None:
    assert resolve(SHAPES, [{"cam.epochs": 3}, {"cam.epochs": 4}])["cam.epochs"] == 4


def test_a_missing_file_is_said_where_a_file_is_wanted() -> None:
    with pytest.raises(WrongInput, match="nor an existing file"):
        resolve(SHAPES, [{"backbone.weights": "nowhere.pth"}])


@given(st.integers(-100, 100))
def test_whole_numbers_are_taken_for_real_settings(number: int) -> None:
    assert checked("x", number, Setting(default=0.5)) == float(number)


@pytest.mark.parametrize("text", ["5e-4", "0.0005", "5.0E-04"])
def test_rates_may_be_written_with_an_exponent(text: str) -> None:
    assert resolve(SHAPES, [parse_assignments([f"cam.lr={text}"])])["cam.lr"] == 5e-4


def test_assignments_are_yaml() -> None:
    assert parse_assignments(["a.b=[1, 0.5]", "c.d=true", "e.f=none"]) == {"a.b": [1, 0.5], "c.d": True, "e.f": "none"}
    with pytest.raises(WrongInput, match="takes key=value"):
        parse_assignments(["cam.epochs"])


def test_every_default_and_every_override_is_allowed_by_its_own_setting() -> None:
    for recipe in load_all().values():
        if recipe.kind == "images":
            resolve(recipe, [{name: setting.default for name, setting in declared(recipe).items()}, recipe.overrides])
        for variant in recipe.variants.values():
            resolve(SHAPES, [{f"{recipe.name}.{name}": value for name, value in variant.items()}])


def test_the_settings_published_for_an_image_set_are_settings_of_their_recipe_within_bounds() -> None:
    published = [(recipe, values) for recipe in load_all().values() for values in recipe.published_settings.values()]
    assert published
    for recipe, values in published:
        resolve(SHAPES, [{f"{recipe.name}.{name}": value for name, value in values.items()}])


def test_a_part_to_freeze_is_one_of_the_chosen_backbone_s() -> None:
    for backbone in ("small", "mobilenetv2"):
        assert resolve(SHAPES, [{"backbone.name": backbone, "cam.frozen": "layer3"}])["cam.frozen"] == "layer3"
    with pytest.raises(WrongInput, match=r"^recam.frozen=layer5 is not one of none, stem, layer1, .*layer4$"):
        resolve(SHAPES, [{"recam.frozen": "layer5"}])


def test_a_part_that_only_another_backbone_has_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.planning.settings.parts_of", lambda backbone: ("stem", "block1"))
    with pytest.raises(WrongInput, match=r"^cam.frozen=layer2 is no part of backbone.name=small, which has none, stem, block1$"):
        resolve(SHAPES, [{"backbone.name": "small", "cam.frozen": "layer2"}])
