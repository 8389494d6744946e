"""Image sets are found by their recipe: a new one is a function and a YAML. Also their names and published settings."""

import re
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from imagesets.errors import WrongInput
from imagesets.image_set import ImageSet
from imagesets.layout import find_root, open_layout
from orchestrator.cli.complete import image_sets
from orchestrator.planning import recipes
from orchestrator.planning.experiment import Request, experiment
from orchestrator.planning.images import images_alone, open_images
from orchestrator.planning.prepared import Prepared
from orchestrator.planning.recipe import Recipe
from orchestrator.planning.references import resolve
from tests.conftest import CLASSES, Command, write_image_set
from tests.planned_run import plan_of

ROOT = Path(__file__).parents[1]
BATCH = ("--set", "deeplabv2.batch=2")
HERE = "tests.test_image_recipes"
TOYS = {
    "pets": f"""
        name: pets
        kind: images
        title: Pets
        segmenter: deeplabv2-small
        open: {HERE}:open_pets
        overrides: {{images.name: pets, images.masks: [SegmentationClass], cam.batch: 3}}
        """,
    "drawn": f"""
        name: drawn
        kind: images
        title: Made when they are first needed
        segmenter: deeplabv2-small
        open: {HERE}:open_pets
        make: {HERE}:make_drawn
        settings: {{number: {{default: 4}}}}
        """,
    "sharp": """
        name: sharp
        kind: addon
        title: Something with numbers of its own for pets
        settings: {weight: {default: 0.5}, power: {default: 1}}
        published_settings: {pets: {weight: 0.25}}
        adds: {call: "methods.cam:build", settings: [weight]}
        """,
}


def open_pets(path: str | Path, settings: Mapping[str, Any]) -> ImageSet:
    return open_layout(find_root(path, "pets"), settings, CLASSES)


def make_drawn(parent: Path, settings: Mapping[str, Any], make: bool) -> Path | None:
    root = parent / f"drawn-{settings['number']}"
    if not root.exists():
        if not make:
            return None
        write_image_set(root, train=settings["number"])
    return root


pytestmark = pytest.mark.usefixtures("own_recipes")


def planned(images: str, store: Path, *assignments: str, method: str = "cam+none") -> Prepared:
    return plan_of(
        Request(method, images, "deeplabv2-small", "", ("backbone.weights=none", *assignments), store=store), make=True
    )


def test_every_image_set_names_functions_that_open_it_and_make_it() -> None:
    for recipe in recipes.load_all().values():
        if recipe.kind == "images":
            assert callable(resolve(recipe.open))
            assert not recipe.make or callable(resolve(recipe.make))


def test_a_new_image_set_is_a_function_and_a_recipe(tmp_path: Path) -> None:
    root = write_image_set(tmp_path / "data/pets")
    images = planned(f"pets:{tmp_path / 'data'}", tmp_path / "store").images
    assert (images.name, images.root, len(images.items("train"))) == ("pets", root, 6)


def test_an_image_set_that_is_made_is_made_once_and_not_for_a_plan(tmp_path: Path) -> None:
    settings = experiment(Request("cam+none", "drawn", assignments=("images.number=5",))).settings
    assert open_images("drawn", settings, tmp_path, make=False) is None
    assert list(tmp_path.glob("images/*")) == []
    made = open_images("drawn", settings, tmp_path, make=True)
    assert made == open_images("drawn", settings, tmp_path, make=False)
    assert made and len(made.items("train")) == 5 and made.root.parent == tmp_path / "images"


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("pets", "--images pets names no folder; write --images pets:PATH"),
        ("drawn:somewhere", "drawn is built in and takes no folder"),
        ("pests:x", "there is no kind of image set called 'pests'.*pets"),
    ],
)
def test_a_spec_that_cannot_be_opened_says_why(tmp_path: Path, spec: str, said: str) -> None:
    with pytest.raises(WrongInput, match=said):
        images_alone(spec, [], tmp_path)


def test_a_shell_completes_the_colon_where_a_path_follows() -> None:
    assert image_sets("") == ["coco:", "coco14:", "drawn", "folder:", "folder-per-class:", "pets:", "shapes", "voc12:"]


def test_settings_published_for_an_image_set_give_way_to_its_overrides_and_to_set() -> None:
    def values(spec: str, *assignments: str) -> tuple[Any, ...]:
        settings = experiment(Request("cam+sharp", spec, assignments=assignments)).settings
        return settings["sharp.weight"], settings["sharp.power"]

    assert values("folder:x") == (0.5, 1)
    assert values("pets:x") == (0.25, 1)
    assert values("pets:x", "sharp.weight=0.75") == (0.75, 1)
    path = Path(recipes.package.__file__).with_name("pets.yaml")
    path.write_text(path.read_text().replace("cam.batch: 3", "sharp.weight: 0.125"))
    recipes.load_all.cache_clear()
    assert values("pets:x") == (0.125, 1)


def test_settings_published_for_an_image_set_apply_without_a_method_too(tmp_path: Path) -> None:
    write_image_set(tmp_path / "pets")
    assert images_alone(f"pets:{tmp_path}", [], tmp_path)[1]["sharp.weight"] == 0.25


def test_show_prints_the_settings_published_for_an_image_set(command: Command) -> None:
    assert "defaults on pets: sharp.weight=0.25" in command("show", "sharp")[1]
    shown = command("show", "pets")[1]
    given = {cells[0]: cells[1] for line in shown.splitlines() if len(cells := line.split()) > 1}
    assert (given["sets"], given["images.name"], given["images.masks"], given["cam.batch"]) == (
        "to",
        "pets",
        "['SegmentationClass']",
        "3",
    )


def test_runs_are_called_after_the_folder_of_their_images_unless_it_has_a_name(image_set: Path, tmp_path: Path) -> None:
    spec, store = f"folder:{image_set}", tmp_path / "store"
    assert planned(spec, store).run.startswith("cam+none-images-")
    named = planned(spec, store, "images.name=Pets & co.")
    assert named.images.name == "Pets & co." and named.run.startswith("cam+none-Pets-co.-")
    long = planned(spec, store, f"images.name={'x' * 300}")
    assert len(long.run) < 80


def test_the_name_of_an_image_set_is_part_of_no_key(image_set: Path, tmp_path: Path) -> None:
    spec, store = f"folder:{image_set}", tmp_path / "store"
    assert [step.key for step in planned(spec, store).steps] == [step.key for step in planned(spec, store, "images.name=x").steps]


def test_excluded_ids_that_are_not_there_are_refused(command: Command, image_set: Path, tmp_path: Path) -> None:
    (tmp_path / "out.txt").write_text("train_1.png\nnosuch\n")
    asked = (
        "launch",
        "--method",
        "cam+none",
        "--images",
        f"folder:{image_set}",
        "--recipe",
        ROOT / "tests/tiny.yaml",
        *BATCH,
        "--plan",
    )
    code, _, said = command(*asked, "--exclude", tmp_path / "out.txt")
    assert code == 2 and "1 of 2 ids of" in said and "such as nosuch;" in said
    (tmp_path / "out.txt").write_text("train_1.png\n")
    code, shown, _ = command(*asked, "--exclude", tmp_path / "out.txt")
    assert code == 0 and "5 images" in shown


def test_the_example_files_of_the_docs_are_read_as_the_docs_say(image_set: Path) -> None:
    blocks = dict(re.findall(r"```(\S+)\n(.*?)```", (ROOT / "docs/images.md").read_text(), re.DOTALL))
    assert set(blocks) == {"classes.txt", "image_labels.txt", "image_labels.csv"}
    table = blocks.pop("image_labels.csv")
    for name, text in blocks.items():
        (image_set / name).write_text(text)
    images, _ = images_alone(f"folder:{image_set}", [], image_set)
    assert images.classes == ("cat", "sea lion")
    read = images.label_reader()
    assert [read(f"000{number}") for number in range(1, 6)] == [(0,), (0, 1), (1,), (), (0, 1)]
    (image_set / "image_labels.txt").unlink()
    (image_set / "image_labels.csv").write_text(table)
    read = images_alone(f"folder:{image_set}", [], image_set)[0].label_reader()
    assert [read(id) for id in ("0001", "0002", "0004")] == [(0,), (0, 1), ()]


def test_the_example_recipe_of_the_documentation_is_one(tmp_path: Path) -> None:
    text = (ROOT / "docs/images.md").read_text().partition("names that function:\n\n")[2].partition("\n\n")[0]
    (tmp_path / "cityscapes.yaml").write_text(textwrap.dedent(text))
    recipe = recipes.load(tmp_path / "cityscapes.yaml", Recipe, "cityscapes")
    assert recipe.open == "imagesets.cityscapes:open_cityscapes" and recipe.overrides == {"images.name": "cityscapes"}
