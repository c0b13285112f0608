"""SynGen (Rassin et al. 2023, arXiv 2306.08877)."""

from __future__ import annotations

from dataclasses import dataclass

from ...parsing.binding import Binding, Entity
from ..engine.roles import word_rows
from ..engine.run import Run
from .losses import Related, misbinding
from .objective import Attended, CommonObjective, Losses, Method, Objective


@dataclass(frozen=True)
class SynGen(Method):
    """Each attribute's map is to be its noun's, and unlike those of the other words (arXiv 2306.08877)."""

    name = "SynGen"

    def entities(self, binding: Binding) -> tuple[Entity, ...]:
        found = tuple(entity for entity in super().entities(binding) if len(entity.phrases) > 1)
        if not found:
            raise ValueError(
                f'SynGen binds attributes to nouns, and no entity of "{binding.text}" has any. Use another method, or '
                "name attributes in the node the BINDING comes from."
            )
        return found

    def objective(self, binding: Binding, run: Run) -> Objective:
        return _Binding(self, binding, run)


class _Binding(CommonObjective):
    name = SynGen.name

    def __init__(self, method: SynGen, binding: Binding, run: Run):
        super().__init__(method, binding, run)
        if binding.key in run.merged:
            raise ValueError(
                "SynGen brings attributes to their nouns, and Semantic Token Merge has merged them already. Use one of "
                "the two, or another loss."
            )
        self.rows = list(word_rows(self.binding))

        def places(phrase) -> tuple[int, ...]:
            return tuple(self.rows.index(row) for row in binding.positions([phrase]))

        self.related = [
            Related(places(entity.noun), tuple(filter(None, map(places, entity.phrases[1:]))))
            for entity in method.entities(binding)
        ]

    def losses(self, attended: Attended) -> Losses:
        each = misbinding(attended.mean(self.layers, self.rows), self.related)
        return Losses(each, each.sum(1))
