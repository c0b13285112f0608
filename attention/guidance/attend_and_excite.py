"""Attend-and-Excite (Chefer et al. 2023, arXiv 2301.13826)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ...parsing.binding import Binding
from ..engine.roles import word_rows
from ..engine.run import Run
from .losses import neglect
from .objective import Attended, CommonObjective, Losses, Method, Objective, Update

ALL_ROWS, WORDS = "words, end tokens and padding", "words"


@dataclass(frozen=True)
class AttendAndExcite(Method):
    """Every noun is to have a patch that attends to it (arXiv 2301.13826).

    ``thresholds`` are (part of the run, attention that the most neglected noun is to reach), with up to
    ``refinements`` updates for each of them. As in the code, the step size falls with a square root.
    """

    softmax_over: str
    thresholds: tuple[tuple[float, float], ...]
    refinements: int

    name = "Attend-and-Excite"

    def objective(self, binding: Binding, run: Run) -> Objective:
        return _Exciting(self, binding, run)


class _Exciting(CommonObjective):
    name = AttendAndExcite.name

    def __init__(self, method: AttendAndExcite, binding: Binding, run: Run):
        super().__init__(method, binding, run)
        self.targets = {int(round(at * run.steps, 6)): 1 - reached for at, reached in method.thresholds}
        rows = list(word_rows(self.binding))
        if method.softmax_over == ALL_ROWS:
            starts = {row for tokens in binding.encoders for row in tokens.of_kind("start")}
            # The published code leaves out the last row too.
            rows = [row for row in range(binding.length - 1) if row not in starts]
        self.rows = rows
        self.subjects = [self.rows.index(row) for noun in self.nouns() for row in noun]

    def update(self, step: int) -> Update | None:
        if step not in self.steps:
            return None
        size = self.method.step_size * math.sqrt(1 - 0.5 * step / max(1, self.run.steps - 1))
        if step not in self.targets:
            return Update(size)
        return Update(size, self.method.refinements + 1, self.targets[step], settling=True)

    def losses(self, attended: Attended) -> Losses:
        grid = attended.grids[next(iter(self.layers))]
        each = neglect(attended.mean(self.layers, self.rows), grid, self.subjects)
        return Losses(each, each.amax(1))
