"""Contact sheets: rows of pictures under column titles, for looking at image sets and results."""

from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

GAP = 4  # pixels between cells
CAPTION = 16  # pixels of a line of text
TEXT = 11  # size of the font


def contact_sheet(
    rows: Sequence[Sequence[np.ndarray]], titles: Sequence[str] = (), captions: Sequence[str] = (), cell: int = 160
) -> np.ndarray:
    """One RGB picture uint8 [H,W,3] of `rows` of RGB pictures uint8 [h,w,3], each fitted into `cell` x `cell` pixels.

    `titles` are above the columns, `captions` (one per row, such as image ids) below the rows.
    """
    columns = max((len(row) for row in rows), default=0)
    head = CAPTION if titles else 0
    pitch = cell + GAP + (CAPTION if captions else 0)
    sheet = Image.new("RGB", (GAP + columns * (cell + GAP), GAP + head + len(rows) * pitch), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(TEXT)
    for column, title in enumerate(titles):
        draw.text((GAP + column * (cell + GAP), 2), title, "black", font)
    for index, row in enumerate(rows):
        top = GAP + head + index * pitch
        for column, picture in enumerate(row):
            sheet.paste(_fitted(picture, cell), (GAP + column * (cell + GAP), top))
        if captions:
            draw.text((GAP, top + cell + 1), captions[index], "black", font)
    return np.asarray(sheet)


def without_glyph(texts: Iterable[str]) -> str:
    """The characters of some texts that a contact sheet shows as empty boxes; Pillow's own font has hardly more than ASCII."""
    font = ImageFont.load_default(TEXT)
    box = bytes(font.getmask("\U0010ffff"))  # no character
    characters = sorted({character for text in texts for character in text if not character.isascii()})
    return "".join(character for character in characters if bytes(font.getmask(character)) == box)


def _fitted(picture: np.ndarray, cell: int) -> Image.Image:
    height, width = picture.shape[:2]
    scale = cell / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    # enlarged pixels stay squares, so a small label map is not blurred
    rule = Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.BOX
    return Image.fromarray(picture).resize(size, rule)
