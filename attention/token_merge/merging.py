"""Semantic token merge while sampling: ToMe (Hu et al. 2024, arXiv 2411.07132), section 3.2.

The rows of the conditioning are merged when the node executes (``composite``). What is left for the run is end-token
substitution, which may begin at a later step.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from ...parsing.binding import Binding
from ..engine.calls import Call, Layer
from ..engine.roles import check_rows
from ..engine.rows import Chunk
from ..engine.run import Participant, Run
from .end_tokens import EndRows, substituted

NAME = "Semantic Token Merge"


@dataclass(frozen=True)
class MergeSettings:
    """``ends`` replace the end and padding rows from step ``from_step`` on, the first step being 0. ``rows (1, T, D)``
    are the merged conditioning's."""

    binding: Binding
    ends: tuple[EndRows, ...]
    from_step: int
    rows: torch.Tensor = field(compare=False)

    name = NAME

    def check(self, layers: tuple[Layer, ...]) -> None:
        pass

    def begin(self, run: Run) -> Participant:
        """Raises ValueError if the sampler was given the conditioning as it was before merging."""
        run.require(self.binding, NAME)
        if self.binding.key in run.given.values() and self.binding.key not in run.merged:
            raise ValueError(
                f"{NAME} has merged another conditioning than the sampler was given. Connect its CONDITIONING output "
                f"to the sampler, or take {NAME} off the model of this sampler."
            )
        return Substitution(self) if self.ends else Participant()


class Substitution(Participant):
    def __init__(self, settings: MergeSettings):
        self.settings = settings

    def edit_context(self, call: Call, chunk: Chunk, rows: torch.Tensor) -> torch.Tensor:
        if chunk.cond.key != self.settings.binding.key or call.step < self.settings.from_step:
            return rows
        check_rows(self.settings.binding, chunk.cond.length)
        return substituted(rows, self.settings.ends)
