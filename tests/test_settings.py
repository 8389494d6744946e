"""Settings: all problems are reported at once, with the nearest valid name."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagesets.errors import WrongInput
from orchestrator.planning.experiment import Request, experiment
from orchestrator.planning.recipe import Setting
from orchestrator.planning.recipes import find, load_all
from orchestrator.planning.refusals import problems
from orchestrator.planning.settings import checked, declared, layered, parse_assignments, read_file

SHAPES = find("shapes", ("images",))[0]


def test_an_unknown_setting_names_the_nearest() -> None:
    with pytest.raises(WrongInput, match=r"did you mean 'cam.epochs'"):
        layered(SHAPES, [{"cam.epoch": 3}])


def test_capitals_do_not_lead_to_another_component() -> None:
    with pytest.raises(WrongInput, match=r"'CAM.epochs'; did you mean 'cam.epochs'"):
        layered(SHAPES, [{"CAM.epochs": 3}])


def test_the_threshold_that_sweeps_vary_leads_to_the_setting_of_the_method() -> None:
    with pytest.raises(WrongInput, match=r"'seed.threshold'; did you mean 'lpcam.seed_threshold'"):
        layered(SHAPES, [{"seed.threshold": 0.3}], used=("lpcam", "irn"))


@pytest.mark.parametrize("name", ["segmenter", "method", "random_seed"])
def test_an_option_among_the_settings_is_told_to_be_one(name: str) -> None:
    with pytest.raises(WrongInput, match=f"there is no setting '{name}'; it is the option --{name.replace('_', '-')}"):
        layered(SHAPES, [{name: "x"}], used=("cam", "irn"))


def test_an_unknown_component_names_the_nearest() -> None:
    with pytest.raises(WrongInput, match="did you mean 'lpcam'"):
        find("lpcan", ("extractor",))


def test_every_problem_is_reported_in_one_go() -> None:
    with pytest.raises(WrongInput) as caught:
        layered(SHAPES, [{"cam.epoch": 3, "cam.batch": 0, "cam.lr": "fast", "cam.optimiser": "adagrad"}])
    for part in ("cam.epoch'", "cam.batch=0", "cam.lr='fast'", "cam.optimiser=adagrad is not one of"):
        assert part in str(caught.value)


def test_later_layers_win() -> None:
    assert layered(SHAPES, [{"cam.epochs": 3}, {"cam.epochs": 4}])["cam.epochs"] == 4


def test_a_segmenter_that_was_named_goes_before_a_preset_and_an_image_set_s_own_does_not(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("deeplabv2.lr: 0.125")
    asked = {name: Request("cam", recipe=str(tmp_path / "own.yaml"), segmenter=name) for name in ("", "deeplabv2-small")}
    assert [experiment(request).settings["deeplabv2.lr"] for request in asked.values()] == [0.125, 0.0005]


@pytest.mark.parametrize("name", ["own.txt", "own.YAML"])
def test_a_file_of_settings_with_another_ending_is_told_the_right_one(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("cam.epochs: 3")
    with pytest.raises(WrongInput, match=rf"^--recipe .*{name}: the name of a file of settings ends in \.yaml or \.yml$"):
        experiment(Request("cam", recipe=str(tmp_path / name)))


def test_a_preset_goes_before_a_file_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "laptop").write_text("")
    assert experiment(Request("cam", recipe="laptop")).settings["cam.epochs"]


def test_a_missing_file_is_said_where_a_file_is_wanted() -> None:
    with pytest.raises(
        WrongInput,
        match=r"^backbone\.weights=nowhere\.pth is no existing file; it takes the path of a file, or imagenet or none$",
    ):
        layered(SHAPES, [{"backbone.weights": "nowhere.pth"}])


@pytest.mark.parametrize("given", ["training.threads=100000", "extraction.threads=257", "training.loaders=1000"])
def test_more_threads_and_processes_than_a_machine_can_have_are_refused(given: str) -> None:
    name, _, value = given.partition("=")
    with pytest.raises(WrongInput, match=rf"^{name}={value} must be between [01] and (256|64)$"):
        layered(SHAPES, [{name: int(value)}])


@given(st.integers(-100, 100))
def test_whole_numbers_are_taken_for_real_settings(number: int) -> None:
    assert checked("x", number, Setting(default=0.5)) == float(number)


@pytest.mark.parametrize("text", ["5e-4", "0.0005", "5.0E-04"])
def test_rates_may_be_written_with_an_exponent(text: str) -> None:
    assert layered(SHAPES, [parse_assignments([f"cam.lr={text}"])])["cam.lr"] == 5e-4


def given_to(setting: str, text: str) -> object:
    """The value that `--set` reads from a text for a setting."""
    return layered(SHAPES, [parse_assignments([f"{setting}={text}"])])[setting]


def test_an_assignment_is_read_as_its_setting_s_type() -> None:
    assert given_to("cam.scales", "[1, 0.5]") == [1.0, 0.5] and given_to("cam.scales", "1") == [1.0]
    assert given_to("irn.mean_shift", "true") is True and given_to("deeplabv2.crf", "none") == "none"
    assert given_to("cam.epochs", "010") == 10  # which YAML takes for 8
    with pytest.raises(WrongInput, match="takes key=value"):
        parse_assignments(["cam.epochs"])


@pytest.mark.parametrize(
    "name", ["007", "no", "2007_000", "1e3", "null", "~", "12:30", "2012-01-01", "0x10", "a: b", "#1", "*x", "1.10"]
)
def test_a_text_stays_what_was_typed(name: str) -> None:
    assert given_to("images.training", name) == name
    assert given_to("images.training", f"'{name}'") == name  # in quotes, as YAML takes it
    assert given_to("images.training", "'") == "'"  # which opens none
    assert given_to("images.masks", name) == [name]


def test_lists_of_texts_stay_what_was_typed_too() -> None:
    assert given_to("images.masks", "[007, no, 2007_000, '1, 2']") == ["007", "no", "2007_000", "1, 2"]


def test_a_text_in_a_file_of_settings_stays_what_is_written_there(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("images.training: 007\nimages.scoring: no\ncam.lr: 5e-4\ncam.scales: [1, 0.5]\nlpcam.contexts: no\n")
    settings = layered(SHAPES, [read_file(path)])
    assert (settings["images.training"], settings["images.scoring"]) == ("007", ["no"])
    assert (settings["cam.lr"], settings["cam.scales"], settings["lpcam.contexts"]) == (5e-4, [1.0, 0.5], False)


@pytest.mark.parametrize("text", ["[1, 2", "a: b: c", "\t- x", "- a", "just text"])
def test_a_file_that_holds_no_settings_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(WrongInput, match=r"mine\.yaml (is no YAML file|must map settings to values)"):
        read_file(path)


def test_lists_in_lists_are_refused_before_aliases_make_them_endless(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    aliases = [f"a{number}: &a{number} [{', '.join([f'*a{number - 1}'] * 9)}]" for number in range(1, 30)]
    path.write_text("\n".join(["a0: &a0 [1, 1]", *aliases, "cam.scales: *a29"]))
    with pytest.raises(WrongInput, match="more than texts and numbers in the list 'a1'"):
        read_file(path)


def test_a_value_that_is_nested_too_deeply_is_refused(tmp_path: Path) -> None:
    deep = "[" * 2000 + "]" * 2000
    (tmp_path / "mine.yaml").write_text(f"cam.scales: {deep}")
    with pytest.raises(WrongInput, match="is no YAML file"):
        read_file(tmp_path / "mine.yaml")
    with pytest.raises(WrongInput, match="cannot be read; a list is written"):
        layered(SHAPES, [parse_assignments([f"cam.scales={deep}"])])


LISTS = {
    "cam.long_side=[64]": "must hold 2 values",
    "cam.long_side=[64,48]": "must ascend",
    "cam.long_side=[64,80,90]": "must hold 2 values",
    "cam.long_side=[64.5,80]": "must be a list",
    "cam.long_side=[0,64]": "must be at least 16",
    "cam.epochs=0": "must be at least 1$",
    "cam.scales=[]": "must hold at least one value",
    "cam.scales=[0]": "must be between 0.1 and 8",
    "cam.scales=[-1.0]": "must be between 0.1 and 8",
    "cam.scales=[1.0,.nan]": "must be a list",
    "cam.scales=[1.0,nan]": "must be a finite number",
    "cam.scales=[1.0,inf]": "must be a finite number",
    "cam.scales=[1.0,[0.5]]": "must be a list",
    "cam.scales=[1.0": "cannot be read",
    "cam.scales=big": "must be a list",
    "deeplabv2.scales=[]": "must hold at least one value",
    "deeplabv2.test_scales=[]": "must hold at least one value",
    "deeplabv2.rates=[]": "must hold at least one value",
    "deeplabv2.rates=[0]": "must be at least 1",
    "irn.scale_range=[1.5,0.5]": "must ascend",
    "amn.scale_range=[1.5]": "must hold 2 values",
    "evaluation.thresholds=[0.5,0.1,0.1]": "must be \\[start, stop, step\\]",
    "evaluation.thresholds=[0.0,1.0,0.0]": "must be \\[start, stop, step\\]",
    "evaluation.thresholds=[0.0,1.0,0.0000001]": "at most 10000 values",
    "evaluation.thresholds=[0.0,1.0]": "must hold 3 values",
    "images.masks=[]": "must hold at least one value",
}


@pytest.mark.parametrize("assignment", LISTS)
def test_a_list_of_another_length_order_or_content_is_refused(assignment: str) -> None:
    with pytest.raises(WrongInput, match=LISTS[assignment]):
        layered(SHAPES, [parse_assignments([assignment])])


def test_every_list_of_every_recipe_refuses_to_be_empty_and_bounds_its_numbers() -> None:
    lists = {
        f"{recipe.name}.{name}": setting
        for recipe in load_all().values()
        for name, setting in recipe.settings.items()
        if isinstance(setting.default, list)
    }
    assert len(lists) > 10
    for name, setting in lists.items():
        with pytest.raises(WrongInput, match="at least one value"):
            checked(name, [], setting)
        if isinstance(setting.default[0], (int, float)):
            with pytest.raises(WrongInput, match="must be"):
                checked(name, [-1 for _ in setting.default], setting)


@pytest.mark.parametrize("text", ["nan", "inf", "-inf"])
def test_a_number_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(WrongInput, match="finite"):
        given_to("cam.lr", text)


def test_every_default_and_every_override_is_allowed_by_its_own_setting() -> None:
    for recipe in load_all().values():
        if recipe.kind == "images":
            layered(recipe, [{name: setting.default for name, setting in declared(recipe).items()}, recipe.overrides])
        for variant in recipe.variants.values():
            layered(SHAPES, [{f"{recipe.name}.{name}": value for name, value in variant.items()}])


def test_the_settings_published_for_an_image_set_are_settings_of_their_recipe_within_bounds() -> None:
    published = [(recipe, values) for recipe in load_all().values() for values in recipe.published_settings.values()]
    assert published
    for recipe, values in published:
        layered(SHAPES, [{f"{recipe.name}.{name}": value for name, value in values.items()}])


def test_a_part_to_freeze_is_one_of_the_chosen_backbone_s() -> None:
    for backbone in ("small", "mobilenetv2"):
        assert layered(SHAPES, [{"backbone.name": backbone, "cam.frozen": "layer3"}])["cam.frozen"] == "layer3"
    with pytest.raises(WrongInput, match=r"^recam.frozen=layer5 is not one of none, stem, layer1, .*layer4$"):
        layered(SHAPES, [{"recam.frozen": "layer5"}])


def test_a_part_that_only_another_backbone_has_is_refused_with_the_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = experiment(Request("cam", assignments=("cam.frozen=layer2",)))
    assert not problems(wanted, wanted.stages, {})
    monkeypatch.setattr("orchestrator.planning.refusals.parts_of", lambda backbone: ("stem", "block1"))
    told = "cam.frozen=layer2 is no part of backbone.name=small, which has none, stem, block1"
    assert told in problems(wanted, wanted.stages, {})


def test_a_stride_that_only_another_backbone_has_is_refused_with_the_plan() -> None:
    assignments = ("deeplabv2.backbone=resnet38d", "deeplabv2.stride=16")
    wanted = experiment(Request("cam+none", segmenter="deeplabv2", assignments=assignments))
    told = "deeplabv2.stride=16 is no output stride of deeplabv2.backbone=resnet38d, which has 8"
    assert told in problems(wanted, wanted.stages, {})
    with pytest.raises(WrongInput, match=r"^deeplabv2.stride=12 is not one of 8, 16, 32$"):
        layered(SHAPES, [{"deeplabv2.stride": 12}])
