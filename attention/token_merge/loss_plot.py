"""The losses of a run as a picture: a panel for each loss, a line for each entity."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

import torch
from PIL import Image, ImageDraw, ImageFont

from ..maps.axis import Axis
from ..maps.colours import line_colours
from ..maps.drawing import BACKGROUND, FAINT, INK, as_tensor, write
from .loss_history import LOSSES, Entry, LossHistory

NO_LOSSES = (
    "This run has no losses: no entity has attributes or sub-objects, or no step with the conditioning was optimised."
)
FINENESS = 2
"""The drawing is this much larger than the picture it is reduced to; all sizes below are the drawing's."""
UNIT = 30
WIDTH, PLOT_HEIGHT = 64 * UNIT, 14 * UNIT
LEFT, RIGHT = 5 * UNIT, 2 * UNIT
LINE_HEIGHT = round(1.6 * UNIT)
PANEL_HEAD, PANEL_FOOT = 2 * UNIT, 2 * UNIT
GRID = (63, 63, 70)
BAND = 60
"""Opacity, of 255."""


def plot(history: LossHistory) -> torch.Tensor:
    """``(1, H, W, 3)`` in 0..1. The iterations go from left to right, in groups by step; lines are means over the
    latents, with a band from the smallest to the largest where there are several. Without losses it says so."""
    losses = [loss for loss in LOSSES if history.of(loss)]
    colours = line_colours(len(history.entities))
    legend = _legend(history.entities) if losses else []
    head = UNIT + (1 + max(1, len(legend))) * LINE_HEIGHT
    size = WIDTH, head + len(losses) * (PANEL_HEAD + PLOT_HEIGHT + PANEL_FOOT)
    sheet = Image.new("RGB", size, BACKGROUND)
    draw = ImageDraw.Draw(sheet, "RGBA")
    write(draw, (UNIT, UNIT + LINE_HEIGHT // 2), history.prompt, UNIT, WIDTH - 2 * UNIT, INK)
    below = UNIT + LINE_HEIGHT + LINE_HEIGHT // 2
    if not losses:
        write(draw, (UNIT, below), NO_LOSSES, UNIT, WIDTH - 2 * UNIT, FAINT)
    for line, places in enumerate(legend):
        for entity, left, width in places:
            baseline = below + line * LINE_HEIGHT
            draw.rectangle((left, baseline - UNIT // 2, left + UNIT, baseline - UNIT // 4), fill=colours[entity])
            write(draw, (left + 1.5 * UNIT, baseline), history.entities[entity], UNIT, width, INK)
    for number, loss in enumerate(losses):
        top = head + number * (PANEL_HEAD + PLOT_HEIGHT + PANEL_FOOT) + PANEL_HEAD
        panel = Panel(draw, top, history.of(loss))
        panel.title(f"{loss} loss", history.steps)
        panel.frame()
        panel.lines(colours if loss != "pose" else [INK])
    return as_tensor(sheet.reduce(FINENESS))[None]


def _legend(names: Sequence[str]) -> list[list[tuple[int, float, float]]]:
    """Lines of names: for each its number, where it starts, and the width its text may have."""
    font = ImageFont.load_default(UNIT)
    lines, left = [], WIDTH
    for number, name in enumerate(names):
        width = min(math.ceil(font.getlength(name)), WIDTH - 4 * UNIT)
        if left + width + 3 * UNIT > WIDTH:
            lines.append([])
            left = UNIT
        lines[-1].append((number, left, width))
        left += width + 3 * UNIT
    return lines


@dataclass(frozen=True)
class Panel:
    """The entries of one loss, drawn with the upper edge of the plot at ``top``."""

    draw: ImageDraw.ImageDraw
    top: int
    entries: Sequence[Entry]

    @cached_property
    def axis(self) -> Axis:
        return Axis.of(value for entry in self.entries for latent in entry.values for value in latent)

    def title(self, name: str, steps: int) -> None:
        latents = len(self.entries[0].values)
        values = [value for entry in self.entries for latent in entry.values for value in latent]
        first, last = self.entries[0].step + 1, self.entries[-1].step + 1
        notes = [
            f"step {first} of {steps}" if first == last else f"steps {first} to {last} of {steps}",
            "logarithmic scale" if self.axis.logarithmic else "",
            f"mean of {latents} latents, band: smallest to largest" if latents > 1 else "",
            "" if all(map(math.isfinite, values)) else "gap: no finite number",
        ]
        baseline = self.top - UNIT // 2
        write(self.draw, (LEFT, baseline), name, 1.1 * UNIT, WIDTH / 4, INK)
        note = "; ".join(filter(None, notes))
        write(self.draw, (WIDTH - RIGHT, baseline), note, 0.8 * UNIT, WIDTH * 3 / 4 - LEFT - RIGHT, FAINT, "rs")

    def frame(self) -> None:
        """The numbers on the axes, and lines between the steps."""
        bottom = self.top + PLOT_HEIGHT
        for value, text in self.axis.ticks():
            y = self._y(value)
            self.draw.line((LEFT, y, WIDTH - RIGHT, y), fill=GRID, width=2)
            write(self.draw, (LEFT - UNIT // 2, y), text, 0.8 * UNIT, LEFT - UNIT, FAINT, "rm")
        free_from = 0.0
        font = ImageFont.load_default(0.8 * UNIT)
        for step, group in groupby(range(len(self.entries)), lambda index: self.entries[index].step):
            indices = list(group)
            start, stop = self._edge(indices[0]), self._edge(indices[-1] + 1)
            self.draw.line((start, self.top, start, bottom), fill=GRID, width=2)
            middle, half = (start + stop) / 2, font.getlength(f"step {step + 1}") / 2
            if middle - half >= free_from:
                write(self.draw, (middle, bottom + 1.2 * UNIT), f"step {step + 1}", 0.8 * UNIT, WIDTH, FAINT, "ms")
                free_from = middle + half + UNIT / 2
        self.draw.rectangle((LEFT, self.top, WIDTH - RIGHT, bottom), outline=FAINT, width=2)

    def lines(self, colours: Sequence[tuple[int, int, int]]) -> None:
        """One for each number the entries hold, all bands first."""
        series = [
            [[latent[place] for latent in entry.values] for entry in self.entries] for place in range(len(colours))
        ]
        for colour, values in zip(colours, series, strict=True):
            for stretch in _finite(values):
                low = [self._point(index, min(values[index])) for index in stretch]
                high = [self._point(index, max(values[index])) for index in stretch]
                if len(values[0]) > 1 and len(stretch) > 1:
                    self.draw.polygon([*low, *reversed(high)], fill=(*colour, BAND))
        for colour, values in zip(colours, series, strict=True):
            for stretch in _finite(values):
                points = [self._point(index, sum(values[index]) / len(values[index])) for index in stretch]
                self.draw.line(points, fill=colour, width=6, joint="curve")
                for x, y in points:
                    self.draw.ellipse((x - 7, y - 7, x + 7, y + 7), fill=colour)

    def _point(self, index: int, value: float) -> tuple[float, float]:
        return (self._edge(index) + self._edge(index + 1)) / 2, self._y(value)

    def _edge(self, index: int) -> float:
        """Where the column of an iteration begins."""
        return LEFT + (WIDTH - LEFT - RIGHT) * index / len(self.entries)

    def _y(self, value: float) -> float:
        return self.top + PLOT_HEIGHT * (1 - self.axis.place(value))


def _finite(values: Sequence[Sequence[float]]) -> Iterator[list[int]]:
    """The stretches of iterations whose values are all finite."""
    for finite, group in groupby(range(len(values)), lambda index: all(map(math.isfinite, values[index]))):
        if finite:
            yield list(group)
