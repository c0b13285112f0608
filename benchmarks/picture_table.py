"""A table as a picture: numbers under a sample in each cell, on a colour that tells better from worse."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

PICTURE, PAD, TEXT, SIDE = 128, 8, 15, 96
LINE = TEXT * 4 // 3
INK, PAPER, WORSE, BETTER = (24, 24, 27), (255, 255, 255), (245, 150, 90), (110, 170, 240)
MOST = 0.2
"""The difference at which the colours end."""


@dataclass(frozen=True)
class Cell:
    """A sample (H, W, 3) of 0..1, lines of text under it, and the difference to what the table compares with."""

    picture: np.ndarray
    lines: tuple[str, ...]
    difference: float


def shade(difference: float) -> tuple[int, int, int]:
    """White for no difference, towards blue for better, towards orange for worse."""
    part = min(abs(difference) / MOST, 1.0)
    end = BETTER if difference > 0 else WORSE
    return tuple(round(a + (b - a) * part) for a, b in zip(PAPER, end, strict=True))


def draw_table(
    corner: str, columns: Sequence[str], rows: Sequence[str], cells: Sequence[Sequence[Cell]], notes: Sequence[str]
) -> Image.Image:
    """The cells under the titles of their columns and beside those of their rows, with notes and the colours below.

    ``corner`` says what the titles of the rows are.
    """
    lines = max(len(cell.lines) for row in cells for cell in row)
    across, down = PICTURE + 2 * PAD, PICTURE + lines * LINE + 3 * PAD
    width = SIDE + len(columns) * across
    notes = [line for note in notes for line in textwrap.wrap(note, 2 * width // TEXT)]
    head = LINE + 2 * PAD
    bottom = head + len(rows) * down
    sheet = Image.new("RGB", (width, bottom + (len(notes) + 1) * LINE + 3 * PAD), PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(TEXT)
    draw.text((SIDE - PAD, head / 2), corner, INK, font, anchor="rm")
    for number, title in enumerate(columns):
        draw.text((SIDE + (number + 0.5) * across, head / 2), title, INK, font, anchor="mm")
    for line, (title, row) in enumerate(zip(rows, cells, strict=True)):
        top = head + line * down
        draw.text((SIDE - PAD, top + PAD + PICTURE / 2), title, INK, font, anchor="rm")
        for number, cell in enumerate(row):
            left = SIDE + number * across
            draw.rectangle((left + 1, top + 1, left + across - 2, top + down - 2), shade(cell.difference))
            sheet.paste(_enlarged(cell.picture), (left + PAD, top + PAD))
            for place, text in enumerate(cell.lines):
                at = (left + across / 2, top + PICTURE + 2 * PAD + (place + 0.5) * LINE)
                draw.text(at, text, INK, font, anchor="mm")
    for place, note in enumerate(notes):
        draw.text((PAD, bottom + PAD + place * LINE), note, INK, font)
    _legend(draw, font, bottom + 2 * PAD + len(notes) * LINE)
    return sheet


def _enlarged(picture: np.ndarray) -> Image.Image:
    pixels = np.rint(np.clip(picture, 0.0, 1.0) * 255.0).astype(np.uint8)
    return Image.fromarray(pixels).resize((PICTURE, PICTURE), Image.Resampling.BICUBIC)


def _legend(draw: ImageDraw.ImageDraw, font, top: float) -> None:
    """The colours from the worst to the best, with both ends named."""
    low, high = f"-{MOST:g} and less", f"+{MOST:g} and more"
    left = PAD + draw.textlength(low, font) + PAD
    draw.text((PAD, top), low, INK, font)
    for column in range(2 * PICTURE):
        colour = shade((column / PICTURE - 1) * MOST)
        draw.line((left + column, top, left + column, top + LINE - 2), colour)
    draw.text((left + 2 * PICTURE + PAD, top), high, INK, font)
