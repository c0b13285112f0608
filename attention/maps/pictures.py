"""Heat maps drawn over pictures, with labels and a colour bar."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image, ImageDraw

from .colours import coloured
from .drawing import BACKGROUND, FAINT, INK, as_image, as_tensor, write
from .heatmaps import heat_maps, normalised, ranges
from .recording import Recording

LAYOUTS = ("grid", "one by one")
SMALLEST_CELL = 256


@dataclass(frozen=True)
class Style:
    """How to draw: one of ``LAYOUTS``, what the colour bar spans, its colours, how much of the heat map shows (0..1),
    and whether labels and the colour bar are drawn."""

    layout: str
    normalisation: str
    colour_map: str
    opacity: float
    labels: bool


@dataclass(frozen=True)
class Cell:
    """One picture of a sheet with the text above it."""

    picture: Image.Image
    title: str
    note: str


def overlays(recording: Recording, images: torch.Tensor | None, style: Style) -> torch.Tensor:
    """The heat maps of a recording over its pictures ``(latents, H, W, 3)``, or alone where there are none.

    Small pictures are enlarged where labels are drawn.

    Returns:
        ``(latents, H', W', 3)`` as a grid; ``(latents * steps * labels, H', W', 3)``, in that order, one by one.

    Raises:
        ValueError: there are not as many pictures as latents.
    """
    if images is not None and images.shape[0] != recording.latents:
        raise ValueError(
            f"There are {images.shape[0]} images but the recording is of {recording.latents} latents. Connect the "
            "pictures decoded from the very latent that is connected here."
        )
    sheets = []
    for latent in range(recording.latents):
        picture = None if images is None else images[latent, ..., :3].cpu().float()
        sheets += _sheets(recording, latent, picture, style)
    return torch.stack([as_tensor(sheet) for sheet in sheets])


def _sheets(recording: Recording, latent: int, picture: torch.Tensor | None, style: Style) -> list[Image.Image]:
    """The sheets of one latent: a single one, or one for each step and label."""
    size = recording.image_size if picture is None else tuple(picture.shape[:2])
    enlargement = max(1, math.ceil(SMALLEST_CELL / min(size))) if style.labels else 1
    maps = heat_maps(recording, latent, size)
    low, high = ranges(maps, style.normalisation)
    least, most = ranges(maps, "each map")
    ends = ("min", "max") if style.normalisation == "each map" else (_number(low[0, 0]), _number(high[0, 0]))

    rows = []
    for step, steps in enumerate(recording.steps):
        row = []
        for label, name in enumerate(recording.labels):
            place = step, label
            colours = coloured(normalised(maps[place], low[place], high[place]), style.colour_map)
            if picture is not None:
                grey = picture.mean(-1, keepdim=True)
                colours = colours * style.opacity + grey * (1 - style.opacity)
            note = f"{_number(least[place])} to {_number(most[place])}"
            row.append(Cell(_image(colours, enlargement), name, note))
        title = _steps_title(steps, len(recording.sigmas) - 1)
        if style.layout == "one by one":
            rows += [[Cell(cell.picture, cell.title, f"{title}, {cell.note}")] for cell in row]
        elif picture is not None:
            rows.append([Cell(_image(picture, enlargement), "picture", title), *row])
        else:
            rows.append([Cell(row[0].picture, row[0].title, f"{title}, {row[0].note}"), *row[1:]])
    if style.layout == "one by one":
        return [_sheet([row], ends, style) for row in rows]
    return [_sheet(rows, ends, style)]


def _image(pixels: torch.Tensor, enlargement: int) -> Image.Image:
    image = as_image(pixels)
    return image.resize((image.width * enlargement, image.height * enlargement), Image.Resampling.BICUBIC)


def _steps_title(steps: Sequence[int], total: int) -> str:
    if len(steps) == 1:
        return f"step {steps[0] + 1} of {total}"
    return f"steps {steps[0] + 1} to {steps[-1] + 1} of {total}"


def _number(value: torch.Tensor) -> str:
    return f"{value.item():.3g}"


def _sheet(rows: list[list[Cell]], ends: tuple[str, str], style: Style) -> Image.Image:
    """Rows of cells under their titles, a colour bar on the right of each; bare and close together without labels."""
    width, height = rows[0][0].picture.size
    unit = max(12, min(width, height) // 16) if style.labels else 0
    gap = unit // 2 if style.labels else 2 * (len(rows) * len(rows[0]) > 1)
    head, side = round(unit * 2.9), unit * 5
    across, down = width + gap, head + height + gap
    first = gap if style.labels else 0
    total = (first + len(rows[0]) * across + side, len(rows) * down)
    if not style.labels:
        total = (total[0] - gap, total[1] - gap)
    sheet = Image.new("RGB", total, BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    for line, row in enumerate(rows):
        top = line * down + head
        for column, cell in enumerate(row):
            left = first + column * across
            sheet.paste(cell.picture, (left, top))
            if style.labels:
                write(draw, (left, top - round(unit * 1.5)), cell.title, unit * 1.05, width, INK)
                write(draw, (left, top - round(unit * 0.35)), cell.note, unit * 0.8, width, FAINT)
        if style.labels:
            left = first + len(row) * across + gap
            bar = coloured(torch.linspace(1, 0, height)[:, None].expand(-1, unit), style.colour_map)
            sheet.paste(_image(bar, 1), (left, top))
            left += unit + gap
            for text, baseline in zip(ends, (top + height, top + unit), strict=True):
                write(draw, (left, baseline), text, unit * 0.8, total[0] - left, FAINT)
    return sheet
