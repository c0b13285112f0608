"""The losses of Token Optimization in one run, and how a viewer finds those of its own run."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..engine.results import RunResults, Wording

LOSSES = ("binding", "entropy", "pose")
KEPT_RUNS = 8
WORDING = Wording(node="Token Optimization", done="optimised", result="losses")


class Entry(NamedTuple):
    """One of ``LOSSES`` in one iteration, before its update. ``step`` and ``iteration`` count from 0; ``values`` hold
    for each latent one number for each entity, the pose loss a single one."""

    loss: str
    step: int
    iteration: int
    values: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class LossHistory:
    """The losses of one sampling run in the order they were computed. ``entities`` are those that were optimised,
    ``steps`` those of the whole run, ``sigmas`` its noise schedule."""

    prompt: str
    entities: tuple[str, ...]
    steps: int
    sigmas: tuple[float, ...]
    entries: tuple[Entry, ...]

    def of(self, loss: str) -> tuple[Entry, ...]:
        return tuple(entry for entry in self.entries if entry.loss == loss)

    def means(self, loss: str) -> list[float]:
        """The mean over latents and entities in each iteration."""
        return [_mean([value for latent in entry.values for value in latent]) for entry in self.of(loss)]

    def to_json(self) -> str:
        """Everything. A loss that is no finite number is null."""
        losses = [
            {
                "loss": entry.loss,
                "step": entry.step,
                "iteration": entry.iteration,
                "values": [[value if math.isfinite(value) else None for value in latent] for latent in entry.values],
            }
            for entry in self.entries
        ]
        return json.dumps(
            {
                "prompt": self.prompt,
                "entities": self.entities,
                "steps": self.steps,
                "sigmas": self.sigmas,
                "losses": losses,
            },
            ensure_ascii=False,
        )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


class TokenLosses(RunResults[LossHistory]):
    """The value on the TOKEN_LOSSES wire: the losses of the last few runs of one Token Optimization."""

    def __init__(self):
        super().__init__(WORDING, KEPT_RUNS)
