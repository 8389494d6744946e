"""`ls`, `show` and `--help`: what they list, and that a terminal of 80 columns has room for it."""

from pathlib import Path

import msgspec
import pytest

from orchestrator.cli import catalogue
from orchestrator.planning import inherited
from orchestrator.planning.inherited import with_unnamed_methods
from orchestrator.planning.recipe import Recipe, Setting
from orchestrator.planning.recipes import load_all
from orchestrator.reading import tables
from tests.conftest import Command

NEW = Recipe(
    name="brand-new",
    kind="network",
    title="A new method",
    settings={"epochs": Setting(default=90), "optimiser": Setting(default="lion", choices=("lion",)), "own": Setting(default=1)},
)


@pytest.fixture
def with_new_method(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inherited, "load_all", lambda: {**load_all(), NEW.name: NEW})


def test_ls_fits_80_columns_and_names_what_it_leaves_out(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "PIPED_WIDTH", 80)
    code, shown, _ = command("ls")
    assert code == 0 and max(map(len, shown.splitlines())) <= 80 and "not shown for want of room: published" in shown
    for recipe in load_all().values():
        assert recipe.kind not in catalogue.LISTED or any(
            line.split()[:2] == [recipe.name, recipe.kind] for line in shown.splitlines()
        )


def test_show_lists_the_values_of_a_preset_beside_the_defaults(command: Command) -> None:
    code, shown, _ = command("show", "laptop")
    rows = {cells[0]: cells[1:] for line in shown.splitlines() if len(cells := line.split()) == 3}
    assert code == 0 and rows["sets"] == ["to", "default"] and rows["cam.epochs"] == ["4", "5"]


def test_show_takes_the_variants_that_ls_lists_with_their_own_defaults(command: Command) -> None:
    code, shown, _ = command("show", "deeplabv2-resnet50")
    assert code == 0 and shown.startswith("deeplabv2-resnet50 (segmenter): ")
    (line,) = (line for line in shown.splitlines() if line.split()[:1] == ["deeplabv2.backbone"])
    assert line.split()[1] == "resnet50"


def test_show_says_which_component_has_an_entry(command: Command) -> None:
    code, _, errors = command("show", "resnet50")
    assert code == 2 and "it is an entry of resnet: `wsss-orch show resnet`" in errors


def test_the_help_lists_every_command_in_one_of_four_groups(command: Command) -> None:
    code, shown, _ = command("--help")
    groups = [line for line in shown.splitlines() if line and line[0] != " " and line.endswith(":")]
    assert code == 0 and groups == ["Options:", "Run:", "Look:", "Share:", "Cluster:"]
    listed = {line.split()[0] for line in shown.partition("Run:")[2].splitlines() if line[:2] == "  " and line[2:3] != " "}
    assert listed >= {"launch", "images", "ls", "compare", "export", "predict", "submit", "stop"}


def test_a_new_method_has_the_preset_s_values_of_cam_where_they_fit(with_new_method: None) -> None:
    given = with_unnamed_methods(load_all()["laptop"].overrides)
    own = {name: value for name, value in given.items() if name.startswith("brand-new.")}
    assert own == {"brand-new.epochs": 4}  # the optimiser of cam is none of its choices, and cam has no setting "own"


def test_a_method_that_a_preset_names_keeps_its_other_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    named = msgspec.structs.replace(NEW, settings={**NEW.settings, "crop": Setting(default=300)})
    monkeypatch.setattr(inherited, "load_all", lambda: {**load_all(), NEW.name: named})
    given = with_unnamed_methods({"cam.epochs": 4, "cam.crop": 224, "brand-new.own": 2})
    assert {name for name in given if name.startswith("brand-new.")} == {"brand-new.own"}


def test_no_published_method_depends_on_that_rule() -> None:
    for name in ("laptop", "shapes"):
        named = load_all()[name].overrides
        heirs = {setting.partition(".")[0] for setting in with_unnamed_methods(named).keys() - named.keys()}
        assert not [heir for heir in heirs if load_all()[heir].published]


@pytest.mark.parametrize("spec", ["./photographs", "/data/photographs", "~/photographs", "photographs"])
def test_a_plain_path_of_images_is_told_how_to_name_it(spec: str, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    if spec == "photographs":
        Path(spec).mkdir()
    for words in (("launch", "--method", "cam", "--images", spec, "--plan"), ("images", "check", spec)):
        code, _, errors = command(*words)
        assert code == 2 and f"did you mean folder:{spec}?" in errors


def test_a_misspelt_kind_of_images_is_told_the_nearest_one(command: Command) -> None:
    code, _, errors = command("images", "check", "fodler:photographs")
    assert code == 2 and "did you mean 'folder'?" in errors
