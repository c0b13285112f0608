"""The entropy loss of ToMe (Hu et al. 2024, arXiv 2411.07132), for the latent alone."""

from __future__ import annotations

from dataclasses import dataclass

from ...parsing.binding import Binding
from ..engine.roles import word_rows
from ..engine.run import Run
from ..token_merge.binding_losses import composite_maps, entropy_loss, strength
from .objective import Attended, CommonObjective, Losses, Method, Objective, Update


@dataclass(frozen=True)
class Entropy(Method):
    """Each noun's map is to be compact: ToMe's entropy loss (arXiv 2411.07132), for the latent alone."""

    name = "entropy loss"

    def objective(self, binding: Binding, run: Run) -> Objective:
        return _Compact(self, binding, run)


class _Compact(CommonObjective):
    name = Entropy.name

    def update(self, step: int) -> Update | None:
        return Update(self.method.step_size * strength(step, self.run.steps)) if step in self.steps else None

    def losses(self, attended: Attended) -> Losses:
        rows = list(word_rows(self.binding))
        columns = [[rows.index(row) for row in noun] for noun in self.nouns()]
        each = entropy_loss(composite_maps(attended.mean(self.layers, rows), columns))
        return Losses(each, each.sum(1))
