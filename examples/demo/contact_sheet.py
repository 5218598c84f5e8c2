"""A picture of search results: per row one query and, to its right, what was found for it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

TILE = 84
GAP = 12
CAPTION = 36
MARGIN = 36
QUERY_GAP = 30  # Between the query and the first neighbour.
TITLE = 92
BLOCK_TITLE = 58
NOTE = 26
BLOCK_GAP = 20

PAPER = (255, 255, 255)
INK = (28, 32, 38)
MUTED = (112, 120, 130)
LINE = (214, 219, 225)
QUERY = (22, 96, 176)
OTHER = (184, 66, 36)


@dataclass(frozen=True)
class Tile:
    """One picture and the text under it.

    Attributes:
        pixels: side * side gray values, 0 is paper and 255 is ink.
        name: What it shows.
        detail: The second line, in gray.
        differs: Whether it shows something else than the query, which the caption's colour tells.
    """

    pixels: npt.NDArray[np.uint8]
    name: str
    detail: str = ""
    differs: bool = False


@dataclass(frozen=True)
class Row:
    """A query, its neighbours from near to far, and a line above them (empty: none)."""

    query: Tile
    neighbours: tuple[Tile, ...]
    note: str = ""


@dataclass(frozen=True)
class Block:
    """Rows under one heading."""

    title: str
    text: str
    rows: tuple[Row, ...]


def size_of(blocks: tuple[Block, ...]) -> tuple[int, int]:
    """Returns width and height of the sheet in pixels."""
    columns = max((len(row.neighbours) for block in blocks for row in block.rows), default=0)
    width = 2 * MARGIN + TILE + QUERY_GAP + max(1, columns) * (TILE + GAP) - GAP
    height = 2 * MARGIN + TITLE
    for block in blocks:
        height += BLOCK_GAP + BLOCK_TITLE + sum(_row_height(row) for row in block.rows)
    return width, height


def render(title: str, subtitle: str, blocks: tuple[Block, ...]) -> Image.Image:
    """Returns the sheet; its size is `size_of(blocks)`."""
    width, height = size_of(blocks)
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, MARGIN), title, INK, _font(30))
    draw.text((MARGIN, MARGIN + 46), subtitle, MUTED, _font(17))
    y = MARGIN + TITLE
    for block in blocks:
        draw.line((MARGIN, y, width - MARGIN, y), LINE, 1)
        y += BLOCK_GAP
        draw.text((MARGIN, y), block.title, INK, _font(20))
        draw.text((MARGIN, y + 27), block.text, MUTED, _font(14))
        y += BLOCK_TITLE
        for row in block.rows:
            _draw_row(sheet, draw, row, y)
            y += _row_height(row)
    return sheet


def _row_height(row: Row) -> int:
    return TILE + CAPTION + GAP + (NOTE if row.note else 0)


def _draw_row(sheet: Image.Image, draw: ImageDraw.ImageDraw, row: Row, y: int) -> None:
    x = MARGIN
    if row.note:
        draw.text((x, y + 4), row.note, QUERY, _font(15))
        y += NOTE
    _draw_tile(sheet, draw, row.query, x, y, QUERY)
    x += TILE + QUERY_GAP
    divider = x - QUERY_GAP // 2
    draw.line((divider, y, divider, y + TILE + CAPTION - 6), LINE, 1)
    for tile in row.neighbours:
        _draw_tile(sheet, draw, tile, x, y, OTHER if tile.differs else INK)
        x += TILE + GAP


def _draw_tile(
    sheet: Image.Image,
    draw: ImageDraw.ImageDraw,
    tile: Tile,
    x: int,
    y: int,
    ink: tuple[int, int, int],
) -> None:
    side = round(len(tile.pixels.reshape(-1)) ** 0.5)
    dark = Image.fromarray(255 - tile.pixels.reshape(side, side))
    sheet.paste(dark.resize((TILE, TILE), Image.Resampling.LANCZOS), (x, y))
    border = QUERY if ink == QUERY else LINE
    draw.rectangle((x - 1, y - 1, x + TILE, y + TILE), outline=border, width=1)
    middle = x + TILE // 2
    draw.text((middle, y + TILE + 4), tile.name, ink, _font(13), anchor="ma")
    draw.text((middle, y + TILE + 19), tile.detail, MUTED, _font(12), anchor="ma")


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
