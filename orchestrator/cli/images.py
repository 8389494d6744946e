"""`wsss-orch images`: checks an image set, counts and shows its images, and prepares image sets of other files."""

from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from imagesets.errors import WrongInput, refuse
from imagesets.image_set import ImageSet
from imagesets.item import Item
from orchestrator.cli import options, paths
from orchestrator.cli.given_twice import Command
from orchestrator.cores import cores
from orchestrator.engine.progress import Display
from orchestrator.planning.images import images_alone, prepare, unread_alone
from orchestrator.reading.tables import table, terminal, warn

COLUMNS = 3  # images side by side on a contact sheet

app = typer.Typer(help="Check, prepare and look at image sets.", no_args_is_help=True, rich_markup_mode=None)
Spec = Annotated[str, typer.Argument(help="An image set, such as shapes, coco14:PATH or folder:PATH; `wsss-orch ls` has all.")]
Assign = Annotated[
    list[str], typer.Option("--set", help="key=value of the image set, such as images.training=train_aug; may be repeated.")
]


@app.command("check", cls=Command)
def check_images(
    spec: Spec,
    assign: Assign = [],
    bad: Annotated[
        Path | None, paths.option(parser=paths.file, help="Write the ids of images with a problem to this file, for --exclude.")
    ] = None,
    store: options.ImagesRoot = options.STORE,
) -> None:
    """Decode every image and mask that a run would read. Shows all problems at once; exit code 2 if there are any.

    Examples:

      wsss-orch images check voc12:PATH

      wsss-orch images check folder:PATH --set images.training=train --set images.validation=holdout --bad bad.txt
    """
    from imagesets.check import check
    from imagesets.labels import ANNOTATIONS, list_of

    images, settings = images_alone(spec, assign, store.resolve())
    console = terminal()
    warn(console, unread_alone(assign))
    scored = [*settings["images.scoring"], *settings["images.validation"], *filter(None, [settings["images.selection"]])]
    learnt = [settings["images.training"], settings["images.fitting"] or settings["images.training"]]
    others = filter(None, [settings["images.classification"]])
    names, held_out = list(dict.fromkeys([*learnt, *scored, *others])), settings["images.validation"][:1]
    found = check(images, names, scored, learnt, held_out)
    warn(console, found.warnings)
    if bad is not None:
        bad.parent.mkdir(parents=True, exist_ok=True)
        images.write_list(bad, found.ids)
    refuse(found.problems, spec, outcome="")
    places = {"xml": ANNOTATIONS, "masks": "the masks", "folders": "the folders of the classes"}
    source = places.get(images.label_source) or list_of(images.root).name
    console.print(f"{spec} has no problems; its image-level labels come from {source}")
    console.print(_counts(images, names))


def _counts(images: ImageSet, lists: list[str]) -> Table:
    """Images per list and class, and how many have a mask."""
    labels, made = images.label_reader(), table("images of", *(f">{name}" for name in lists))
    shown = {name: [labels(id) for id in images.ids(name)] for name in lists}
    counts = {name: Counter(label for of_image in shown[name] for label in of_image) for name in lists}
    made.add_row("all", *(str(len(shown[name])) for name in lists))
    for index, label in enumerate(images.classes):
        made.add_row(label, *(str(counts[name][index]) for name in lists))
    made.add_row("without labels", *(str(shown[name].count(())) for name in lists))
    made.add_row("with a mask", *(str(images.with_mask(name)) for name in lists))
    return made


@app.command("prepare", cls=Command)
def prepare_images(
    spec: Annotated[str, typer.Argument(help="coco14:PATH, coco:PATH or voc12:PATH.")],
    sbd: Annotated[
        Path | None, paths.option(help="Of voc12: the unpacked Semantic Boundaries Dataset, benchmark_RELEASE.")
    ] = None,
    assign: Assign = [],
) -> None:
    """Make lists, image-level labels and masks of a data set's own files. A stopped command continues where it was.

    coco14 and coco: of COCO's instance annotations, by images.rule, in PATH/prepared-coco14-RULE or PATH/prepared-coco-RULE.
    voc12: the list train_aug (VOC's train and all of SBD except VOC's val: 10,582 images); VOC's own masks are kept.

    Examples:

      wsss-orch images prepare coco14:PATH

      wsss-orch images prepare coco14:PATH --set images.rule=hfpl

      wsss-orch images prepare voc12:VOCdevkit/VOC2012 --sbd benchmark_RELEASE
    """
    from orchestrator.engine.in_processes import in_processes

    console = terminal()
    warn(console, unread_alone(assign))
    if sbd and not spec.startswith("voc12:"):
        raise WrongInput(f"--sbd is read for voc12:PATH alone, not for {spec}")
    with Display(console) as display:

        def show(name: str, done: int, total: int) -> None:
            if done == 0:
                display.start(name, total, "masks")
            display.update(name, done)

        told = prepare(spec, assign, {"sbd": sbd}, partial(in_processes, cores()), show)
    for sentence in told:
        console.print(sentence)


@app.command("split", cls=Command)
def split_list(
    spec: Spec,
    list_name: Annotated[str, typer.Option("--list", help="The list to divide.")],
    into: Annotated[str, typer.Option(help="The names of the two new lists: to learn from, and to score on.")] = "train,val",
    share: Annotated[float, typer.Option(min=0, max=1, help="The share of the images in the second list.")] = 0.2,
    assign: Assign = [],
    store: options.ImagesRoot = options.STORE,
) -> None:
    """Divide a list into two new ones. The images' names decide which image goes where, so it is the same every time.

    Examples:

      wsss-orch images split folder:PATH --list all

      wsss-orch images split coco:PATH --list result --share 0.25
    """
    from imagesets.check import list_problems
    from imagesets.lists import held_out

    images, _ = images_alone(spec, assign, store.resolve())
    names = [name.strip() for name in into.split(",")]
    files = [images.list_path(name) for name in names]
    if len(set(names)) != 2 or [(file.stem, file.suffix) for file in files] != [(name, ".txt") for name in names]:
        raise WrongInput(f"--into {into} must name two lists of {spec}, which are text files, such as train,val")
    if there := next((file for file in files if file.exists()), None):
        raise WrongInput(f"{there} is there already; move it away, or name other lists by --into")
    ids = images.ids(list_name)
    refuse(list_problems(images, list_name, ids), spec, outcome=", nothing was written")
    if not 0 < share < 1 or not 0 < round(share * len(ids)) < len(ids):  # a share may be nan
        raise WrongInput(f"--share {share} of the {len(ids)} images of {list_name} leaves one of the two lists empty")
    apart = held_out(ids, share)
    for file, wanted in zip(files, (False, True), strict=True):
        own = [id for id in ids if (id in apart) == wanted]
        images.write_list(file, own)
        terminal().print(f"written  {file}: {len(own)} of the {len(ids)} images of {list_name}")


@app.command("show", cls=Command)
def show_images(
    spec: Spec,
    output: Annotated[Path, paths.option(parser=paths.file, help="The PNG file to write.")],
    list_name: Annotated[str, typer.Option("--list", help="An image list.")] = "train",
    count: Annotated[int, typer.Option(min=1, help="Number of images.")] = 12,
    assign: Assign = [],
    store: options.ImagesRoot = options.STORE,
) -> None:
    """Draw a contact sheet of a list. It shows images, their masks and their labels.

    Examples:

      wsss-orch images show shapes --output shapes.png

      wsss-orch images show voc12:PATH --list val --count 20 --output val.png
    """
    from imagesets.picture import without_glyph
    from orchestrator.pages.choice import spread

    if output.suffix.lower() != ".png":
        raise WrongInput(f"--output {output} must end in .png")
    images, _ = images_alone(spec, assign, store.resolve())
    console = terminal()
    warn(console, unread_alone(assign))
    items = images.items(list_name, with_masks=images.with_mask(list_name) == len(images.ids(list_name)))
    if not items:
        raise WrongInput(f"list {list_name} of {spec} is empty; there is nothing to show")
    shown = spread(items, count)
    captions = [f"{item.id}: {', '.join(images.classes[index] for index in item.labels)}" for item in shown]
    _draw(shown, captions, output)
    if boxes := without_glyph(captions):
        warn(console, [f"{output} shows empty boxes for characters that its font does not have: {boxes}"])
    console.print(f"{output}: {len(shown)} of the {len(items)} images of {list_name}")


def _draw(items: list[Item], captions: list[str], output: Path) -> None:
    """Blocks of image, mask (if any) and caption, three to a row."""
    import numpy as np
    from PIL import Image

    from imagesets.palette import colourise
    from imagesets.picture import contact_sheet

    def read(path: Path, picture: Callable[[], np.ndarray]) -> np.ndarray:
        try:
            return picture()
        except Exception as error:  # a damaged file can make its decoder raise anything
            raise WrongInput(f"{path} cannot be shown: {error}; `wsss-orch images check` finds all such files") from None

    blocks = []
    for item, caption in zip(items, captions, strict=True):
        pictures = [read(item.image, item.rgb), *([colourise(read(item.mask, item.truth))] if item.mask else [])]
        blocks.append(contact_sheet([pictures], captions=[caption]))
    blocks += [np.full_like(blocks[0], 255)] * (-len(blocks) % COLUMNS)
    rows = [np.concatenate(blocks[start : start + COLUMNS], axis=1) for start in range(0, len(blocks), COLUMNS)]
    output.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(rows)).save(output, format="PNG")
