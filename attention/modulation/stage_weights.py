"""Stage weights: attention modulation (arXiv 2404.13899), phase-wise dynamic weights of cross-attention.

Early steps, in which the layout is made, weigh the words of the whole picture up; late steps those of the entities. The
paper shows curves without numbers; those here are the pack's own. A weight w multiplies a token's attention before the
normalisation, as ln w on its logit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch

from ...parsing.binding import Binding
from ..engine.calls import Attention, Call, Layer
from ..engine.roles import Roles, check_rows, over_columns, roles_of
from ..engine.run import Participant, Run, Technique
from .object_focus import CLOSED, FocusSettings

Curve = Callable[[float], float]
"""A weight over the run: 0 is its first step, 1 its last."""


@dataclass(frozen=True)
class Shape:
    """A curve from ``start`` to ``end``: "linear", "cosine" (slow at both ends), or "step" (at ``switch_at``)."""

    kind: str
    start: float
    end: float
    switch_at: float = 0.5

    def __call__(self, stage: float) -> float:
        if self.kind == "linear":
            part = stage
        elif self.kind == "cosine":
            part = (1 - math.cos(math.pi * stage)) / 2
        else:
            part = float(stage >= self.switch_at)
        return self.start + (self.end - self.start) * part


def stage_of(step: int, steps: int) -> float:
    return step / max(1, steps - 1)


def log_weights(roles: Roles, length: int, words: float, entities: float, end: float) -> torch.Tensor:
    """``(length,)``: the logarithm of the weight of each row; 0 for the start token."""
    weights = torch.zeros(length)
    for positions, weight in ((roles.words, words), (roles.end, end), *((group, entities) for group in roles.groups)):
        weights[list(positions)] = math.log(weight) if weight > 0 else -CLOSED
    return weights


def has_focus(techniques: Iterable[Technique], binding: Binding) -> bool:
    """Whether one of the techniques is Object-Focused Attention for the binding, and does something."""
    focuses = (technique for technique in techniques if isinstance(technique, FocusSettings))
    return any(focus.binding.key == binding.key and not focus.idle for focus in focuses)


@dataclass(frozen=True)
class StagePlan:
    """What a run will do: for each of its steps the weights of global and of entity tokens, and whether the run has
    Object-Focused Attention for the same binding."""

    words: tuple[float, ...]
    entities: tuple[float, ...]
    focused: bool


@dataclass(frozen=True)
class WeightSettings:
    """``words`` are the weights of the tokens of no entity, ``entities`` those of the entities' tokens. The start token
    keeps weight 1, and so do end and padding tokens unless ``end_as_words``. ``report`` gets the plan of every run when
    it begins."""

    binding: Binding
    words: Curve
    entities: Curve
    end_as_words: bool
    report: Callable[[StagePlan], None]

    name = "Stage Weights"

    def check(self, layers: tuple[Layer, ...]) -> None:
        pass

    def begin(self, run: Run) -> Participant:
        run.require(self.binding, self.name)
        stages = [stage_of(step, run.steps) for step in range(run.steps)]
        words, entities = (tuple(map(curve, stages)) for curve in (self.words, self.entities))
        plan = StagePlan(words, entities, has_focus(run.techniques, self.binding))
        self.report(plan)
        return Weights(self, plan, run) if self.binding.entities else Participant()


class Weights(Participant):
    def __init__(self, settings: WeightSettings, plan: StagePlan, run: Run):
        self.settings = settings
        self.plan = plan
        self.cross_layers = frozenset(run.layers)
        self.roles = roles_of(settings.binding, settings.binding.entities)
        self.biases: dict[tuple, torch.Tensor] = {}

    def wants(self, call: Call) -> bool:
        weights = self.plan.words[call.step], self.plan.entities[call.step]
        return weights != (1, 1) and bool(call.of(self.settings.binding.key))

    def bias_cross(self, call: Call, attention: Attention):
        for chunk in call.of(self.settings.binding.key):
            check_rows(self.settings.binding, chunk.cond.length)
            columns = chunk.cond.length, call.context_rows, attention.k.shape[1], attention.k.device
            yield chunk, self._bias(call.step, *columns)

    def _bias(self, *key) -> torch.Tensor:
        """``(T,)``, made once for all layers of a step."""
        if key not in self.biases:
            step, length, context_rows, columns, device = key
            words, entities = self.plan.words[step], self.plan.entities[step]
            end = words if self.settings.end_as_words else 1.0
            row = log_weights(self.roles, length, words, entities, end)
            self.biases[key] = over_columns(row, context_rows, columns).to(device)
        return self.biases[key]
