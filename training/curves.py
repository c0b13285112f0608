"""The losses of a training so far, and a picture of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean

from PIL import Image, ImageDraw

from ..attention.maps.axis import Axis
from ..attention.maps.colours import line_colours
from ..attention.maps.drawing import BACKGROUND, FAINT, INK, write

POINTS = 120
"""At most so many means of neighbouring steps are drawn for each loss."""
FINENESS = 2
PANEL_WIDTH, PANEL_HEIGHT = 400, 150
LEFT, HEAD, FOOT = 52, 24, 18
LETTERS = 12


class Curves:
    """Each loss by its name, step by step."""

    def __init__(self, losses: Mapping[str, Sequence[float]] | None = None):
        self.losses: dict[str, list[float]] = {name: list(values) for name, values in (losses or {}).items()}

    def add(self, losses: Mapping[str, float]) -> None:
        for name, value in losses.items():
            self.losses.setdefault(name, []).append(value)

    def __len__(self) -> int:
        return max(map(len, self.losses.values()), default=0)


def picture(curves: Curves, previews: Sequence[Image.Image] = (), captions: Sequence[str] = ()) -> Image.Image:
    """A panel for each loss, and below them the preview pictures with their captions."""
    scale = FINENESS
    names = list(curves.losses)
    columns = min(2, max(1, len(names)))
    rows = math.ceil(len(names) / columns)
    width = columns * PANEL_WIDTH
    side = min(256, width // max(1, min(4, len(previews))))
    across = max(1, width // side)
    below = math.ceil(len(previews) / across) * (side + FOOT)
    sheet = Image.new("RGB", (width * scale, (rows * PANEL_HEIGHT + below) * scale), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    for number, (name, colour) in enumerate(zip(names, line_colours(len(names)), strict=True)):
        corner = number % columns * PANEL_WIDTH, number // columns * PANEL_HEIGHT
        _panel(draw, corner, name, curves.losses[name], colour)
    for number, (preview, caption) in enumerate(zip(previews, captions, strict=True)):
        x, y = number % across * side, rows * PANEL_HEIGHT + number // across * (side + FOOT)
        sheet.paste(preview.convert("RGB").resize((side * scale, side * scale)), (x * scale, y * scale))
        baseline = (y + side + FOOT - 5) * scale
        write(draw, ((x + 4) * scale, baseline), caption, LETTERS * scale, (side - 8) * scale, FAINT)
    return sheet.reduce(FINENESS)


def _panel(draw: ImageDraw.ImageDraw, corner: tuple[int, int], name: str, values: Sequence[float], colour) -> None:
    left, top = corner[0] + LEFT, corner[1] + HEAD
    right, bottom = corner[0] + PANEL_WIDTH - 8, corner[1] + PANEL_HEIGHT - FOOT
    size, scale = LETTERS * FINENESS, FINENESS
    stride = max(1, math.ceil(len(values) / POINTS))
    means = [fmean(values[at : at + stride]) for at in range(0, len(values), stride)]
    axis = Axis.of(means)
    for value, text in axis.ticks():
        y = (bottom + (top - bottom) * axis.place(value)) * scale
        draw.line((left * scale, y, right * scale, y), fill=(63, 63, 70), width=scale)
        write(draw, ((left - 5) * scale, y), text, size, (LEFT - 5) * scale, FAINT, "rm")
    draw.rectangle((left * scale, top * scale, right * scale, bottom * scale), outline=FAINT, width=scale)
    write(draw, (left * scale, (top - 7) * scale), f"{name} {values[-1]:.4g}", size, (right - left) * scale, INK)
    steps = f"{len(values)} steps"
    write(draw, (right * scale, (bottom + 13) * scale), steps, size, (right - left) * scale, FAINT, "rs")
    points = [
        (
            (left + (right - left) * (place + 0.5) / len(means)) * scale,
            (bottom + (top - bottom) * axis.place(value)) * scale,
        )
        for place, value in enumerate(means)
        if math.isfinite(value)
    ]
    if len(points) > 1:
        draw.line(points, fill=colour, width=2 * scale, joint="curve")
    for x, y in points if len(points) < 20 else ():
        draw.ellipse((x - 2 * scale, y - 2 * scale, x + 2 * scale, y + 2 * scale), fill=colour)
