"""The report is one file that shows the run's results and needs nothing else."""

import asyncio
import base64
import hashlib
import io
import json
import re
import shutil
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from imagesets.item import read_label_map
from imagesets.item_list import ItemList
from maps.maps import Maps
from metrics import region
from orchestrator.engine.job import Job
from orchestrator.pages.choice import choose, spread
from orchestrator.pages.figures import COLOURS, INK, losses
from orchestrator.pages.page import percent, seconds
from orchestrator.pages.report import write_report
from orchestrator.planning.prepared import Prepared
from orchestrator.planning.published import figures_of, published
from orchestrator.planning.recipe import Published
from orchestrator.planning.recipes import load_all
from orchestrator.reading.numbers import told_figures
from orchestrator.reading.protocol import shown
from orchestrator.reading.results import cost_unit, used_settings
from orchestrator.reading.summary import group_of
from orchestrator.reading.tables import oracle
from orchestrator.storage.shards import StoredRecords
from orchestrator.storage.store import Store
from orchestrator.tables.columns import Column
from orchestrator.tracking.logged import stage_manifests, system
from tests.browser import needs_chromium, opened
from tests.conftest import write_image_set
from tests.finished_run import PretendEngine, finished_run

Finished = tuple[Prepared, dict[str, Any], Path]
VOID_ELEMENTS = {"meta", "img", "br", "input"}


class Page(HTMLParser):
    """A page's source, text, addresses and tags; raises if a tag is closed that is not open."""

    def __init__(self, page: str):
        super().__init__()
        self.source, self.text = page, ""
        self.addresses: list[str] = []
        self.open: list[str] = []
        self.sheets: list[dict[str, Any]] = []  # what the image browser reads
        self.tags: Counter[str] = Counter()
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.addresses += [str(value) for name, value in attributes if name in ("src", "href", "srcset", "xlink:href")]
        if tag not in VOID_ELEMENTS:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        if tag not in VOID_ELEMENTS:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    @property
    def words(self) -> str:
        """The text with one blank between words."""
        return " ".join(self.text.split())

    def handle_data(self, text: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.text += f"{text.strip()} "
        elif text.startswith("[{"):
            self.sheets = json.loads(text)

    @property
    def layers(self) -> dict[str, list[str]]:
        """The titles of the layers of each list in the image browser."""
        return {sheet["title"]: [layer["title"] for layer in sheet["layers"]] for sheet in self.sheets}


def samples(page: Page) -> list[dict[str, Any]]:
    """The images of all lists in a page's image browser."""
    return [sample for sheet in page.sheets for sample in sheet["samples"]]


def uris(sample: dict[str, Any]) -> list[str]:
    """The addresses of all pictures of an image."""
    found = [uri for picture in sample["pictures"] for uri in (picture.values() if isinstance(picture, dict) else [picture])]
    return [sample["photograph"], *found]


def opened_picture(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


def heights(svg: str) -> list[float]:
    """The heights of the markers of a figure's lines, in the order of drawing, without those of the legend."""
    plotted = "".join(re.findall(r"<g clip-path[^>]*>(.*?)</g>", svg, re.DOTALL))
    marked = "|".join(colour.lower() for colour in COLOURS)
    found = re.findall(rf'<use xlink:href="[^"]+" x="[\d.]+" y="([\d.]+)" style="fill: (?:{marked})', plotted)
    return [float(height) for height in found]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    root = tmp_path_factory.mktemp("report")
    images = write_image_set(root / "images", train=12)
    for name in ("classes.txt", "image_labels.txt"):
        (images / name).write_text((images / name).read_text().replace("bar", "<b>$bar&$"))
    return finished_run(root / "store", images)


@pytest.fixture(scope="module")
def page(finished: Finished) -> Page:
    return Page(write_report(*finished).read_text())


def test_it_is_whole_and_asks_for_nothing_outside_itself(page: Page) -> None:
    assert not page.open and not page.tags["link"]
    assert all(address.startswith(("#", "data:image/")) for address in page.addresses)
    assert all(uri.startswith("data:image/") for sample in samples(page) for uri in uris(sample))


SHOWN = ("miou", "f", "jf", "iou_small", "precision", "recall", "fp", "fn")


def test_every_score_stands_in_it_with_its_protocol(page: Page, finished: Finished) -> None:
    rows = finished[1]["rows"]
    names = {"seed": "Seed", "pseudo": "Pseudo mask", "seg": "Segmentation"}
    assert [row["quantity"] for row in rows] == ["seed", "seed", "pseudo", "seg"]
    for row in rows:
        title = f"{names[row['quantity']]} of {row['component']} on {row['split']}"
        values = [percent(row["metrics"][name]) for name in SHOWN]
        if oracle := row.get("oracle"):
            values += [f"{row['protocol']['threshold']:.2f} fixed", f"{percent(oracle['miou'])} at {oracle['threshold']:.2f}"]
        assert f"{title} {' '.join(values)}" in page.words
        for name, value in row["protocol"].items():
            assert f"{name} {value}" in page.words
    assert "F is contour quality" in page.words and "Higher is better, except for FP and FN." in page.words


def test_the_protocol_holds_what_a_score_depends_on_and_nothing_of_the_rest(finished: Finished) -> None:
    lpcam, amn, pseudo, seg = (row["protocol"] for row in finished[1]["rows"])
    assert {name for name in lpcam if name.endswith("scales")} == {"cam.scales", "lpcam.scales"}
    assert not {name for name in lpcam if name.partition(".")[0] in ("irn", "amn", "crf", "deeplabv2")}
    assert amn["crf.parameters"] == "irn-labels" and amn["threshold"] == 0.25 and "amn.walk_power" not in amn
    walk = {"irn.exp_times": 8, "irn.beta": 10.0, "irn.walk_radius": 5, "amn.walk_power": 1.3, "amn.walk_background": 0.25}
    assert {name: pseudo[name] for name in walk} == {name: seg[name] for name in walk} == walk
    assert (seg["deeplabv2.fusion"], seg["deeplabv2.crf"], seg["deeplabv2.test_scales"]) == ("max_logits", "none", [1.0])
    assert "deeplabv2.fusion" not in pseudo and seg["trained on"] == "train" and seg["images"] == 3
    assert not {"lpcam.walk_background", "training.threads", "thresholds", "pixels"} & seg.keys()


def test_a_file_of_weights_is_told_by_name_and_eight_characters(tmp_path: Path) -> None:
    path = tmp_path / "resnet.pth"
    path.write_bytes(b"weights")
    assert shown(str(path)) == f"resnet.pth (sha256 {hashlib.sha256(b'weights').hexdigest()[:8]})"
    assert shown("imagenet") == "imagenet" and shown([1.0, 0.5]) == [1.0, 0.5]


def test_a_unit_of_cost_is_what_recipes_say(finished: Finished) -> None:
    assert list(cost_unit()) == ["cam-network", "cam-maps"]
    walls = {stage["stage"]: stage["wall"] for stage in finished[1]["stages"]}
    row, unit = finished[1]["rows"][0], walls["cam-network"] + walls["cam-maps"]
    behind = unit + walls["lpcam-prototypes"] + walls["lpcam-maps"]
    assert row["cost"] == {"wall": pytest.approx(behind), "units": pytest.approx(behind / unit)}


def test_errors_and_costs_stand_in_it(page: Page, finished: Finished) -> None:
    names = ("seed (lpcam)", "seed (amn)", "pseudo mask (irn)", "segmentation (deeplabv2)")
    for row, name in zip(finished[1]["rows"], names, strict=True):
        assert sum(row["errors"].values()) == pytest.approx(1)
        shares = [row["errors"][share] for share in ("tp", "fp_object", "fp_background", "fn")]
        shares += [row["by_labels"][part]["miou"] for part in ("one", "several")]
        assert f"{name} {' '.join(map(percent, shares))}" in page.words
        by_size = [percent(row["metrics"][f"iou_{size}"]) for size in ("small", "medium", "large")]
        assert f"{name} {' '.join([*by_size, *map(str, row['objects'].values())])}" in page.words
        assert f"{name} {seconds(row['cost']['wall'])} {row['cost']['units']:.1f}" in page.words
    costs = [row["cost"]["wall"] for row in finished[1]["rows"]]
    assert costs == sorted(costs) and costs[0] > 0


def test_every_stage_is_listed_with_its_times(page: Page, finished: Finished) -> None:
    for step in finished[0].steps:
        assert step.manifest is not None
        times = [seconds(step.manifest[name]) for name in ("wall", "cpu")]
        assert f"{step.stage.name} {times[0]} {times[1]} " in page.words
    assert page.text.count("made") == len(finished[0].steps) + 1  # and once in the heading


def test_a_resumed_stage_has_no_times_because_those_of_its_first_part_are_lost(tmp_path: Path) -> None:
    store, images = tmp_path / "store", write_image_set(tmp_path / "images")
    prepared, before, _ = finished_run(store, images, "cam+none")
    (maps,) = (step for step in prepared.steps if step.stage.name == "cam-maps")
    (maps.folder / "manifest.json").unlink()
    again, results, folder = finished_run(store, images, "cam+none")
    assert all(row["cost"]["wall"] and row["cost"]["units"] for row in before["rows"])
    assert {(row["cost"]["wall"], row["cost"]["units"]) for row in results["rows"]} == {(None, None)}
    times = {stage["stage"]: (stage["wall"], stage["cpu"]) for stage in results["stages"]}
    assert times["cam-maps"] == (None, None) != times["cam-network"]
    assert Column("cost.cpu").measured(group_of([before])) is not None
    assert Column("cost.cpu").measured(group_of([results])) is None
    words = Page(write_report(again, results, folder).read_text()).words
    assert "stages; the time of a resumed one is unknown" in words and "cam-maps - - " in words
    assert not {name for name in system(stage_manifests({"cam-maps": maps.folder})) if "seconds" in name}


def test_names_from_the_user_are_text_not_markup(page: Page) -> None:
    assert "<b>$bar&$" in page.text


def test_regions_are_pictures_in_the_page(page: Page, finished: Finished) -> None:
    regions = [opened_picture(address) for address in page.addresses if address.startswith("data:")]
    assert {picture.size for picture in regions} == {(72, 72)}
    assert len(regions) == 2 * len(finished[1]["classes"])  # two prototypes a class, one region each


def test_every_list_shows_masks_and_results_over_its_images(page: Page) -> None:
    of_train = ["truth", "seed (lpcam)", "seed (amn)", "pseudo mask (irn)", "maps of seed (lpcam)", "maps of seed (amn)"]
    assert page.layers == {"train": of_train, "val": ["truth", "segmentation (deeplabv2)"]}
    assert [len(sheet["samples"]) for sheet in page.sheets] == [12, 3]
    for sample in samples(page):
        photograph, truth, *_ = map(opened_picture, uris(sample))
        assert (photograph.format, photograph.size) == ("WEBP", (48, 48)) and truth.size == (48, 48)
        assert sample["size"] == [48, 48]


def test_label_maps_keep_their_palette_and_show_the_photograph_where_there_is_background(page: Page) -> None:
    for sample in samples(page):
        labels = [opened_picture(picture) for picture in sample["pictures"] if isinstance(picture, str)]
        assert all(picture.getpalette()[3:6] == [128, 0, 0] for picture in labels)
        for picture in labels:
            alpha = np.asarray(picture.convert("RGBA"))[..., 3]
            assert np.array_equal(alpha > 0, np.asarray(picture) > 0)


def test_each_class_of_an_image_has_a_heat_map(page: Page) -> None:
    sheet = page.sheets[0]
    place = [layer["title"] for layer in sheet["layers"]].index("maps of seed (lpcam)")
    for sample in sheet["samples"]:
        heats = sample["pictures"][place]
        assert set(heats) == set(sample["labels"])
        alpha = np.asarray(opened_picture(next(iter(heats.values()))).convert("RGBA"))[..., 3]
        assert alpha.min() < 40 and alpha.max() > 200  # low values let the photograph through


def test_every_image_has_its_own_score_of_each_layer(page: Page, finished: Finished) -> None:
    prepared, results, _ = finished
    row = results["rows"][2]
    records = StoredRecords(Store(prepared.request.store).folder(row["stage"], row["key"]))
    place = page.layers["train"].index("pseudo mask (irn)")
    for sample in page.sheets[0]["samples"]:
        truth = read_label_map(Path(prepared.request.images.partition(":")[2]) / "SegmentationClass" / f"{sample['id']}.png")
        own = float(region.miou(region.confusion(truth, records[sample["id"]]["label"], 3)))
        assert sample["scores"][place] == [pytest.approx(own), percent(own)] and sample["scores"][0] is None


def test_the_confusion_matrix_has_the_shares_of_each_class_in_percent(page: Page, finished: Finished) -> None:
    prepared, results, _ = finished
    row, root = results["rows"][3], Path(prepared.request.images.partition(":")[2])
    records = StoredRecords(Store(prepared.request.store).folder(row["stage"], row["key"]))
    masks = {id: read_label_map(root / "SegmentationClass" / f"{id}.png") for id in records}
    whole = sum(region.confusion(mask, records[id]["label"], 3) for id, mask in masks.items())
    shares = 100 * whole / whole.sum(1, keepdims=True)
    told = " ".join(f"{value:.0f}" for value in shares[0] if value >= 0.5)
    assert "segmentation (deeplabv2) on val background disc" in page.words and f"background {told} disc" in page.words


def test_figures_take_the_colour_of_the_page(page: Page) -> None:
    assert page.tags["svg"] == 2 + 4  # two seeds, four trainings
    assert "currentColor" in page.source and INK not in page.source


def test_the_same_run_gives_the_same_page(page: Page, finished: Finished) -> None:
    assert write_report(*finished).read_text() == page.source


def test_a_second_launch_says_that_its_stages_were_cached(finished: Finished, tmp_path: Path) -> None:
    request = finished[0].request
    again = finished_run(request.store, Path(request.images.partition(":")[2]))
    text = Page(write_report(again[0], again[1], tmp_path).read_text()).text
    assert text.count("cached") == len(again[0].steps)


def test_a_run_without_seeds_or_pseudo_masks_has_a_report_too(finished: Finished) -> None:
    request = finished[0].request
    run = finished_run(request.store, Path(request.images.partition(":")[2]), method="supervised")
    page = Page(write_report(*run).read_text())
    text = page.text
    assert "Segmentation" in text and list(page.layers) == ["val"]
    assert "Seeds over" not in text and "What the prototypes stand for" not in text


def test_published_figures_stand_beside_ours_with_their_source(finished: Finished, tmp_path: Path) -> None:
    prepared, results, _ = finished
    text = Page(write_report(prepared, {**results, "images_recipe": "voc12"}, tmp_path).read_text()).text
    assert "54.9 (LPCAM Table 2)" in text and "72.7 (LPCAM Table 2)" in text
    assert "LPCAM Table 3" not in text  # that segmentation is of a larger segmenter than this run's


def test_a_loss_of_one_epoch_is_a_point() -> None:
    assert len(heights(losses([{"epoch": 1, "classification": 0.5}], "cam-network"))) == 1


def test_a_loss_may_begin_or_end_in_the_middle_of_a_training() -> None:
    history = [{"epoch": 1, "a": 4.0}, {"epoch": 2, "a": 3.0, "b": 2.0}, {"epoch": 3, "b": 1.0}]
    first, second, third, last = heights(losses(history, "cam-network"))
    # an SVG's heights count from above: 4 and 3 of the one loss, then 2 and 1 of the other
    assert second - first == pytest.approx(third - second) == pytest.approx(last - third) and first < second


def test_published_figures_of_other_metrics_stand_beside_that_of_the_main_one(monkeypatch: pytest.MonkeyPatch) -> None:
    known = load_all()["lpcam"]
    more = (("seed.f/train", 39.9), ("seed.jf/train", 51.9))
    figures = [Published(images="voc12", metric=name, value=value, source="HFPL Table 2") for name, value in more]
    monkeypatch.setitem(load_all(), "lpcam", msgspec.structs.replace(known, published=(*known.published, *figures)))
    found = figures_of("voc12", "seed", "train", ["cam", "lpcam"])
    assert told_figures(found, "seed") == "54.9 (LPCAM Table 2); F 39.9, J&F 51.9 (HFPL Table 2)"
    assert told_figures(figures_of("voc12", "seed", "val", ["cam", "lpcam"]), "seed") == ""


def test_published_figures_are_of_exactly_this_chain() -> None:
    def figure(metric: str, *components: str) -> float | None:
        found = published("voc12", metric, components, segmenter="deeplabv2")
        return found.value if found else None

    assert figure("seed.miou/train", "cam") == 48.8
    assert figure("seed.miou/train", "cam", "lpcam") == 54.9
    assert figure("pseudo.miou/train", "cam", "lpcam", "irn") == 71.2
    assert figure("pseudo.miou/train", "cam", "lpcam", "amn", "irn") == 72.7
    assert figure("pseudo.miou/train", "cam", "lpcam", "amn", "crf") is None
    assert figure("seg.miou/val", "cam", "lpcam", "amn", "irn", "deeplabv2") == 70.1  # its own backbone is ResNet-101
    assert published("voc12", "seg.miou/val", ["lpcam", "amn", "irn", "deeplabv2"], "deeplabv2-small") is None
    assert published("shapes", "seed.miou/train", ["cam"]) is None


@pytest.mark.parametrize(
    ("lists", "chooses"), [(("images.scoring=train", "images.selection=val"), "val"), (("images.scoring=[train, val]",), "train")]
)
def test_a_threshold_is_chosen_on_the_list_that_the_run_says_and_scored_on_the_other(
    image_set: Path, tmp_path: Path, lists: tuple[str, ...], chooses: str
) -> None:
    _, results, _ = finished_run(tmp_path / "store", image_set, "cam+irn", assignments=(*lists, "backbone.weights=none"))
    seeds = [row for row in results["rows"] if row["quantity"] == "seed"]
    assert [row["split"] for row in seeds] == ["train", "val"]
    scored, chooser = sorted(seeds, key=lambda row: row["chooses"])
    assert (scored["chooses"], chooser["split"]) == (False, chooses)
    best = max(range(len(chooser["curve"]["miou"])), key=lambda place: chooser["curve"]["miou"][place])
    threshold = chooser["curve"]["threshold"][best]
    assert scored["oracle"] == {"threshold": threshold, "miou": scored["curve"]["miou"][best], "chosen_on": chooses}
    assert oracle(scored).endswith(f"at {threshold:.2f}, chosen on {chooses}") and "chosen" not in oracle(chooser)


class BlindEngine(PretendEngine):
    """An engine that makes up results without masks."""

    def _record(self, job: Job, image: str) -> dict[str, np.ndarray]:
        if job.recipe.writes == "maps":
            return Maps(np.array([0]), (48, 48), (np.full((1, 12, 12), 0.9),)).arrays()
        return {"label": np.ones((48, 48), np.uint8)}


def test_the_first_list_that_has_masks_chooses_the_threshold(image_set: Path, tmp_path: Path) -> None:
    for mask in (image_set / "SegmentationClass").glob("train_*"):
        mask.unlink()
    lists = ("images.scoring=[train, val]", "backbone.name=small", "backbone.weights=none")
    _, results, _ = finished_run(tmp_path / "store", image_set, "cam+none", engine=BlindEngine, assignments=lists)
    (seeds,) = (row for row in results["rows"] if row["quantity"] == "seed")
    assert (seeds["split"], seeds["chooses"], seeds["oracle"]["chosen_on"]) == ("val", True, "val")
    assert oracle(seeds).endswith(f"at {seeds['oracle']['threshold']:.2f}")


def test_a_run_without_any_mask_has_a_report_that_shows_what_was_made(image_set: Path, tmp_path: Path) -> None:
    shutil.rmtree(image_set / "SegmentationClass")
    small = ("backbone.name=small", "backbone.weights=none")
    prepared, results, folder = finished_run(tmp_path / "store", image_set, "cam+none", engine=BlindEngine, assignments=small)
    assert results["rows"] == [] and prepared.unscored == ["train", "val"]
    page = write_report(prepared, results, folder).read_text(encoding="utf-8")
    layers = Page(page).layers
    assert layers["train"] == ["seed (cam)", "pseudo mask (none)", "maps of seed (cam)"]
    assert layers["val"] == ["segmentation (deeplabv2)"]
    assert "The list train has no masks, so nothing is scored on it." in page and "Nothing was scored." in page
    assert "Protocol of all rows" not in page and "Where they go wrong" not in page


def test_used_settings_are_those_that_stages_receive_and_the_images(image_set: Path, tmp_path: Path) -> None:
    _, results, _ = finished_run(tmp_path / "store", image_set, "cam+irn", assignments=("backbone.weights=none",))
    used = used_settings(results)
    owners = {"images", "cam", "irn", "crf", "training", "backbone", "extraction", "evaluation", "deeplabv2"}
    assert {name.partition(".")[0] for name in used} == owners
    assert "crf.parameters" in used and "crf.seed_threshold" not in used


@given(st.lists(st.sets(st.integers(0, 4), max_size=3), min_size=1, max_size=30), st.integers(1, 8), st.randoms())
def test_samples_show_every_class_there_is_room_for_whatever_the_order(labels: list[set[int]], count: int, random: Any) -> None:
    named = [(f"image{index}", tuple(sorted(own))) for index, own in enumerate(labels)]
    chosen = spread(_list_of(named), count)
    assert len({item.id for item in chosen}) == len(chosen) == min(count, len(named))
    there, seen = set().union(*labels), set().union(*(item.labels for item in chosen))
    assert seen == there or len(seen) >= min(len([item for item in chosen if item.labels]), len(there))
    random.shuffle(named)
    assert spread(_list_of(named), count) == chosen


def test_a_third_of_the_samples_have_the_lowest_scores_and_a_third_the_highest() -> None:
    items = _list_of([(f"image{number}", (number % 2,)) for number in range(20)])
    scored = {f"image{number}": number / 20 for number in range(20)}
    chosen = [item.id for item in choose(items, 9, scored)]
    assert len(set(chosen)) == 9
    assert chosen[3:] == [f"image{number}" for number in (0, 1, 2, 17, 18, 19)]
    assert {item.labels for item in choose(items, 9, scored)[:3]} == {(0,), (1,)}
    assert choose(items, 9, {}) == spread(items, 9) and len(choose(items, 50, scored)) == 20


def test_two_hundred_photographs_with_all_layers_are_under_twenty_megabytes(tmp_path: Path) -> None:
    images = write_image_set(tmp_path / "images", train=3, val=1, side=448)  # noise, which is harder to compress than photographs
    prepared, results, folder = finished_run(tmp_path / "store", images, "cam+irn", assignments=("backbone.weights=none",))
    (train, _) = Page(write_report(prepared, results, folder).read_text()).sheets
    assert len(json.dumps(train["samples"])) / 3 * 200 < 20e6


def _list_of(named: list[tuple[str, tuple[int, ...]]]) -> ItemList:
    return ItemList.of(Path(), (id for id, _ in named), ("" for _ in named), (labels for _, labels in named))


@pytest.mark.parametrize(("value", "shown"), [(4.21, "4.2 s"), (59.96, "1 min 0 s"), (185, "3 min 5 s"), (7799.6, "2 h 10 min")])
def test_times_are_told_in_their_two_largest_units(value: float, shown: str) -> None:
    assert seconds(value) == shown


@needs_chromium
@pytest.mark.slow
def test_a_phone_shows_the_whole_page_whatever_long_words_are_in_it(finished: Finished, tmp_path: Path) -> None:
    prepared, results, _ = finished
    long = {"backbone.weights": f"weights (sha256 {'0123456789abcdef' * 4})", "trained on": "train_" * 20}
    rows = [{**row, "protocol": {**row["protocol"], **long}} for row in results["rows"]]
    page = write_report(prepared, {**results, "method": "+".join(["lpcam"] * 12), "rows": rows}, tmp_path)

    async def use(width: int) -> None:
        async with opened(page, width) as tab:
            assert await tab.evaluate("document.documentElement.scrollWidth") <= width
            every = "[...document.querySelectorAll('body *')].filter(one => !one.closest('.scroll, svg'))"
            beyond = ".filter(one => one.getBoundingClientRect().right > innerWidth + 1).map(one => one.outerHTML.slice(0, 80))"
            assert await tab.evaluate(every + beyond) == []
            assert not tab.errors

    for width in (1200, 390):
        asyncio.run(use(width))
