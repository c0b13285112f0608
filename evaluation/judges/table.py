"""A judge's answers drawn below the picture."""

from __future__ import annotations

import numpy as np
from PIL import ImageFont

from ..overlay import TEXT, enlarge, font_for, with_lines
from .judging import COSINE, Judgement, lines_of, title_of

RIGHT, WRONG = (90, 220, 140), (255, 110, 120)
HALF = 0.5


def draw(image: np.ndarray, judgement: Judgement, index: int) -> np.ndarray:
    """The image (H, W, 3) of 0..1, enlarged to at least 512 pixels, and below it its score and each question with its
    number: green where the answer is rather right, red where it is rather wrong.

    Returns (H', W', 3) float32 of 0..1, of one size for all images of a judgement.
    """
    _, picture = enlarge(image)
    font, judged = font_for(picture), judgement.images[index]
    room = picture.size[0] - 2 * font.size
    colours = [
        TEXT if judgement.measures == COSINE else RIGHT if answer.value >= HALF else WRONG for answer in judged.answers
    ]
    lines = [(title_of(judgement, index), TEXT), *zip(lines_of(judged), colours, strict=True)]
    return with_lines(picture, [(_shortened(line, font, room), colour) for line, colour in lines])


def _shortened(line: str, font: ImageFont.FreeTypeFont, room: int) -> str:
    """As much of a line as fits into so many pixels."""
    if font.getlength(line) <= room:
        return line
    return next(
        (f"{line[:length]}..." for length in range(len(line), 0, -1) if font.getlength(f"{line[:length]}...") <= room),
        "",
    )
