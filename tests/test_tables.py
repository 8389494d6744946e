"""The papers' tables: every row plans, and rows, settings and image sets are what the table and the user say."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from imagesets.coco_preparation import prepare_coco14
from imagesets.errors import WrongInput
from imagesets.voc12 import CLASSES as VOC_CLASSES
from orchestrator.planning.experiment import Experiment
from orchestrator.planning.plan import Planner
from orchestrator.planning.prepared import open_images_of, planner
from orchestrator.planning.refusals import refuse_run
from orchestrator.tables.asked import Asked
from orchestrator.tables.catalogue import chosen, find_table, load_tables
from orchestrator.tables.columns import Column
from orchestrator.tables.planned import PlannedRow, experiments, leading, plan_rows, unread
from orchestrator.tables.table_recipe import Table
from tests.coco_images import write_coco
from tests.conftest import Command, write_image_set

IMAGES = 64  # of each list: as many as the largest batch
STORE = Path("store")
Planned = dict[str, tuple[Asked, list[PlannedRow]]]


def write_voc(root: Path, train: int) -> Path:
    """A tiny image set in VOC's layout, with two of VOC's classes."""
    voc = write_image_set(root / "VOC2012", train=train)
    labels = (voc / "image_labels.txt").read_text()
    (voc / "image_labels.txt").write_text(labels.replace("disc", VOC_CLASSES[0]).replace("bar", VOC_CLASSES[1]))
    (voc / "classes.txt").write_text("\n".join(VOC_CLASSES) + "\n")  # so that it is an image set of the kind folder too
    lists = voc / "ImageSets/Segmentation"
    (lists / "train_aug.txt").write_text((lists / "train.txt").read_text())
    return voc


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Planned:
    """Every table on tiny images of its own image set; the tables of one set share a planner."""
    root = tmp_path_factory.mktemp("tables")
    coco = write_coco(root / "coco", train=IMAGES, val=IMAGES)
    prepare_coco14(str(coco), {"rule": "recam"})
    sets = {"voc12": f"voc12:{write_voc(root, IMAGES)}", "coco14": f"coco14:{coco}"}
    planners: dict[str, Planner] = {}
    found: Planned = {}
    for table in (table for table in load_tables().values() if any(row.expression for row in table.rows)):
        asked = Asked(table, sets[table.images], root / "store", assignments=("images.saliency=contrast",), cluster=True)
        wanted = experiments(asked)
        if table.images not in planners:
            one = next(one for one in wanted.values() if isinstance(one, Experiment))
            opened = open_images_of(one, make=False)
            assert opened is not None
            planners[table.images] = planner(one, opened)
        found[table.id] = asked, plan_rows(asked, wanted, planners[table.images])
    return found


def test_a_column_has_a_value_of_each_class_if_the_paper_prints_lists_in_it() -> None:
    for table in load_tables().values():
        for column in map(Column, table.columns):
            printed = [row.values[column.name] for row in table.rows if row.values.get(column.name) is not None]
            assert column.by_class == any(isinstance(value, list) for value in printed), f"{table.id}: {column.name}"


def test_every_row_with_an_expression_plans(planned: Planned) -> None:
    rows = [row for _, rows in planned.values() for row in rows if row.row.expression]
    assert len(rows) >= 376 and not [row.refusal for row in rows if row.refusal]
    for row in rows:
        refuse_run(row.runs[0])
        assert row.runs[0].steps


def test_the_stages_of_a_row_lead_to_its_columns_and_read_its_settings(planned: Planned) -> None:
    for asked, rows in planned.values():
        columns = [Column(name) for name in asked.table.columns if not name.endswith("/test") and not name.startswith("cost")]
        for row in (row for row in rows if row.row.expression):
            stages = leading(asked.table, row.runs[0].experiment)
            where = f"{asked.table.id}, {row.row.label}"
            for column in columns:
                seeds = column.quantity == "seed"  # pseudo masks are those of seeds in rows without a refiner
                assert not seeds or any(column.wanted(stage.scores, stage.list_name) for stage in stages), where
            read = {name for stage in stages for name in (*stage.owned.values(), *stage.recipe.if_set)}
            placed = {f"{name}.on" for name in ("lpcam", "scg")}
            assert set(row.row.settings) | set(row.row.times) <= read | placed, where


def test_rows_of_one_table_share_their_stages(planned: Planned) -> None:
    _, rows = planned["recam-1-voc12"]
    recams = [row.runs[0].steps for row in rows if row.row.expression == "recam"]
    keys = [{step.stage.name: step.key for step in steps} for steps in recams]
    assert len(keys) == 4 and len({key["recam-network"] for key in keys}) == 1 and len({key["recam-maps"] for key in keys}) == 4


def test_the_optimum_of_a_figure_is_one_of_its_rows(planned: Planned) -> None:
    figures = [(asked, rows) for asked, rows in planned.values() if asked.table.optimum]
    assert len(figures) == 4
    for asked, rows in figures:
        settings = [row.runs[0].settings for row in rows if row.runs]
        assert any(all(one[name] == value for name, value in asked.table.optimum.items()) for one in settings), asked.table.id


def test_a_row_of_our_own_table_has_its_own_number_of_runs(planned: Planned) -> None:
    _, rows = planned["voc6-all"]
    several = {row.row.expression: len(row.runs) for row in rows if len(row.runs) > 1}
    assert several == {"cam+irn": 3, "lpcam+amn": 3, "seam+isl+fsl": 3, "recurseed+epm+irn": 3}
    assert all(row.runs[0].settings["cam.epochs"] == 4 for row in rows)  # the preset laptop
    _, published = planned["hfpl-2"]
    assert {len(row.runs) for row in published} == {1}  # the paper's five are a note


def test_what_a_table_lists_is_what_the_papers_print() -> None:
    tables = load_tables().values()
    rows = [row for table in tables if not table.own for row in table.rows]
    assert len({table.id for table in tables}) == 51 and sum(not row.expression for row in rows) == 128
    assert (
        sum(bool(row.values or row.repositories) for row in rows if row.expression) == 376 + 3
    )  # the optimum of LPCAM Figure 5 is in four panels


def test_a_pattern_of_a_setting_is_a_label_whatever_is_in_it() -> None:
    given = ("cam.epochs=3", "K = 12:lpcam.threshold=0.1", "seam*: cam.lr = 1", "backbone.weights=a:b.c=d", "seam:epochs=3")
    assert Asked(find_table("lpcam-fig-5", "voc12"), "voc12:VOC", STORE, assignments=given).parted == [
        ("", "cam.epochs=3"),
        ("K = 12", "lpcam.threshold=0.1"),
        ("seam*", "cam.lr = 1"),
        ("", "backbone.weights=a:b.c=d"),
        ("seam", "epochs=3"),
    ]


@pytest.mark.parametrize(
    ("name", "kind", "id"),
    [
        ("lpcam-2", "voc12", "lpcam-2-voc12"),
        ("lpcam-2", "coco14", "lpcam-2-coco14"),
        ("lpcam-2", "shapes", "lpcam-2-voc12"),
        ("lpcam-2-coco14", "voc12", "lpcam-2-coco14"),
        ("rsepm-5", "coco14", "rsepm-5"),
    ],
)
def test_the_image_set_decides_between_the_tables_of_an_id(name: str, kind: str, id: str) -> None:
    assert find_table(name, kind).id == id


def test_a_row_is_chosen_by_label_expression_or_pattern_in_any_case() -> None:
    table = find_table("lpcam-2", "voc12")
    assert [row.expression for row in chosen(table, ["irn*", "lpcam+AMN"])] == ["cam+irn", "lpcam+irn", "lpcam+amn"]
    assert len(chosen(table, [])) == 8


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("lpcm-2",), "there is no table 'lpcm-2'; did you mean 'lpcam-2'?"),
        (("qqq",), "there is no table 'qqq'; see `wsss-orch tables`"),
        (("lpcam-2", "--rows", "amnn"), "--rows amnn: lpcam-2-voc12 has no such row to run; did you mean 'amn'?"),
        (("lpcam-2", "--set", "amnn:cam.epochs=2"), "--set amnn: lpcam-2-voc12 has no such row to run; did you mean 'amn'?"),
        (("recam-1", "--set", "recam.weights=w"), "--set recam.weights: rows of recam-1-voc12 have values of their own"),
        (("recam-1", "--set", "cam.epohs=2"), "there is no setting 'cam.epohs'; did you mean 'cam.epochs'?"),
        (("hfpl-fig-7",), "hfpl-fig-7 has no row to run here"),
        (("recam-1", "--to", "table.txt"), "--to table.txt must end in one of .html, .md, .tex, .csv, .svg, .png"),
        (("recam-1", "--to", "table.svg"), "--to table.svg: recam-1-voc12 is no figure"),
    ],
)
def test_a_mistake_is_one_sentence(command: Command, words: tuple[str, ...], why: str) -> None:
    code, _, errors = command("table", *words, "--plan")
    assert code == 2 and why in " ".join(errors.split())


def test_a_row_that_would_be_refused_is_refused_before_the_images_are_drawn(command: Command) -> None:
    code, shown, _ = command("table", "voc6-all", "--rows", "eps", "--rows", "cam+irn", "--segmenter", "upernet-small", "--plan")
    assert code == 0 and "EPS is refused: eps needs saliency maps" in " ".join(shown.split())
    code, _, errors = command("table", "voc6-all", "--rows", "eps", "--segmenter", "upernet-small", "--plan")
    assert code == 2 and "no row of voc6-all can run, such as 'EPS': eps needs saliency maps" in " ".join(errors.split())


def test_a_setting_may_be_for_some_rows(command: Command) -> None:
    asked = Asked(
        find_table("lpcam-2", "voc12"), "voc12:x", STORE, assignments=("cam.epochs=2", "amn:cam.epochs=3"), cluster=True
    )
    wanted = experiments(asked)
    epochs = {row.label: one.settings["cam.epochs"] for row, one in with_rows(asked, wanted)}
    assert epochs["AMN"] == 3 and epochs["AMN with LPCAM"] == epochs["IRN"] == 2
    asked = replace(asked, assignments=("sipe.epochs=2",))
    (told,) = unread(asked, experiments(asked))
    assert told.startswith("no row of lpcam-2-voc12 reads sipe.epochs=2")


def with_rows(asked: Asked, wanted: dict[int, Any]) -> Iterator[tuple[Any, Experiment]]:
    """The rows with their experiments, without those that are refused."""
    return ((asked.table.rows[place], one) for place, one in wanted.items() if isinstance(one, Experiment))


def test_on_other_images_rows_keep_the_published_default_of_what_the_table_varies() -> None:
    asked = Asked(find_table("recam-fig-s1", "shapes"), "shapes", STORE, cluster=True)
    lambdas = {row.at: one.settings["recam.lambda"] for row, one in with_rows(asked, experiments(asked))}
    assert lambdas[0.1] == 0.1 and all(at == value for at, value in lambdas.items())  # the default on shapes is 1
    factors = Asked(find_table("recam-fig-s2", "shapes"), "shapes", STORE, cluster=True)
    rates = {row.at: one.settings["cam.lr"] for row, one in with_rows(factors, experiments(factors)) if row.line == "CAM"}
    assert rates == {factor: factor * 0.001 for factor in (0.25, 0.5, 1, 2, 4)}  # times the rate on shapes


def test_a_preset_or_a_named_segmenter_makes_rows_small() -> None:
    asked = Asked(find_table("recam-3", "shapes"), "shapes", STORE, recipe="laptop", cluster=True)
    backbones = {one.settings["deeplabv2.backbone"] for _, one in with_rows(asked, experiments(asked))}
    assert backbones == {"mobilenetv2"}  # also of rows with deeplabv2-resnet101
    small = replace(asked, recipe="", segmenter="deeplabv2-small")
    assert {one.request.segmenter for _, one in with_rows(small, experiments(small))} == {"deeplabv2-small"}
    single = Asked(find_table("rsepm-2", "shapes"), "shapes", STORE, segmenter="deeplabv2-small", cluster=True)
    kept = {row.segmenter: one.request.segmenter for row, one in with_rows(single, experiments(single))}
    assert kept["own"] == "own"  # the decoder of a single stage


def test_tables_are_listed_with_their_image_set_and_rows(command: Command) -> None:
    code, shown, _ = command("tables")
    lines = {cells[0]: line for line in shown.splitlines() if (cells := line.split())}
    assert code == 0 and set(load_tables()) <= set(lines)
    assert (
        " coco14 " in lines["lpcam-2-coco14"] and " 4 " in lines["lpcam-2-coco14"] and "LPCAM Table 2" in lines["lpcam-2-coco14"]
    )


def test_columns_that_need_another_list_have_it_scored() -> None:
    def settings(id: str) -> Any:
        asked = Asked(find_table(id, "voc12"), "voc12:x", STORE, cluster=True)
        return next(one.settings for _, one in with_rows(asked, experiments(asked)))

    assert settings("hfpl-1")["images.scoring"] == ["train", "val"]
    assert settings("hfpl-5")["images.validation"] == ["val", "train"]
    assert settings("rsepm-4")["images.classification"] == "train"
    assert settings("lpcam-2")["images.scoring"] == ["train"]


def test_a_malformed_table_names_the_file_and_the_field(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables/mine.yaml").write_text("- {id: a, paper: b, table: c, caption: d, images: voc12, columns: [], rowss: []}")
    monkeypatch.setattr("orchestrator.tables.catalogue.package.__file__", str(tmp_path / "__init__.py"))
    load_tables.cache_clear()
    with pytest.raises(WrongInput, match=r"tables/mine\.yaml is malformed: .*rowss"):
        load_tables()
    monkeypatch.undo()
    load_tables.cache_clear()


def test_a_table_has_values_of_its_columns_alone() -> None:
    def strange(table: Table) -> list[str]:
        return [f"{table.id}: {row.label}" for row in table.rows if not set(row.values) <= set(table.columns)]

    assert not [name for table in load_tables().values() for name in strange(table)]
