"""The maps of each recorded step as soon as it is over, for whoever wants to watch a run."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from ..engine.frame import Box, Sum
from .heatmaps import upsampled

SHARE = 0.03
"""Of the time a run takes, what showing steps may take but for the first and the last; others are left out then."""


@dataclass(frozen=True)
class StepMaps:
    """The maps ``(labels, h, w)`` of the first latent in one step of a run: the mean over the recorded layers, on the
    finest of their grids. ``step`` counts from 0, ``steps`` are all of the run."""

    step: int
    steps: int
    maps: torch.Tensor


class Live:
    """Sums up the maps of one step at a time; holds no more than that step."""

    def __init__(self, show: Callable[[StepMaps], None], steps: int, clock: Callable[[], float] = time.perf_counter):
        self.show = show
        self.steps = steps
        self.clock = clock
        self.began = clock()
        self.spent = 0.0
        self.step: int | None = None
        self.sums: dict[int, tuple[Sum, int]] = {}

    def add(self, step: int, level: int, grid: tuple[int, int], maps: torch.Tensor, box: Box) -> None:
        """Add maps ``(latents, labels, h, w)`` of the box of a grid; the first of a step ends the one before, which is
        shown if there is time for it."""
        if step != self.step:
            if self.spent <= SHARE * (self.clock() - self.began):
                self.end()
            self.sums = {}
            self.step = step
        total, count = self.sums.get(level) or (Sum(grid), 0)
        total.add(maps[:1], box)
        self.sums[level] = total, count + 1

    def end(self) -> None:
        """Show the step in progress, if there is one."""
        if not self.sums:
            return
        start = self.clock()
        count = sum(count for _, count in self.sums.values())
        size = self.sums[min(self.sums)][0].grid
        mean = sum(upsampled(total.mean().cpu(), size) * (added / count) for total, added in self.sums.values())
        self.sums = {}
        self.show(StepMaps(self.step, self.steps, mean[0]))
        self.spent += self.clock() - start
