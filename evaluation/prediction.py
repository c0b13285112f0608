"""The score that is shipped: how well each picture of a recording is predicted to bind its prompt."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..attention.maps.recording import Recording
from ..parsing.binding import Binding
from .attended import attended
from .attention_scores import MEASURES, WEAKEST, over_parts

MEASURE, REDUCTION = "peak", WEAKEST
"""The best of those that benchmarks/attention_scores.py has measured, of maps of all words of an entity."""


@dataclass(frozen=True)
class Prediction:
    """The score of one picture, higher for better, and the values of the ``parts`` of the prompt it is made of."""

    score: float
    parts: dict[str, float]

    @property
    def weakest(self) -> str:
        return min(self.parts, key=self.parts.get)


def predictions(recording: Recording, binding: Binding) -> list[Prediction]:
    """One for each latent of a recording of whole entities; kept steps are averaged.

    Raises:
        ValueError: nouns and attributes were recorded apart; or see `attended`.
    """
    measure, of = MEASURES[MEASURE], attended(recording, binding)
    if of.attributes:
        raise ValueError(
            f"The recording has maps of their own for {', '.join(of.attributes)}, and the score was measured on maps "
            "of whole entities. Set record in Record Attention to entities; to record both, put two of it behind each "
            "other."
        )
    names, values = measure.parts(of), measure.values(of).mean(0)
    return [
        Prediction(score, dict(zip(names, parts, strict=True)))
        for score, parts in zip(over_parts(values, REDUCTION).tolist(), values.tolist(), strict=True)
    ]


def mean_score(found: Sequence[Prediction]) -> float:
    return sum(each.score for each in found) / len(found)


def best_of(found: Sequence[Prediction]) -> int:
    """The place of the highest score, the first of equal ones; a picture that is broken is never the best."""
    return max(range(len(found)), key=lambda place: (not math.isnan(found[place].score), found[place].score))


def report(found: Sequence[Prediction]) -> str:
    """All pictures in words, the best at the end."""
    lines = [f"picture {number}: {each.score:.3f}, weakest: {each.weakest}" for number, each in enumerate(found, 1)]
    best = best_of(found)
    return "\n".join([*lines, f"best: picture {best + 1} (index {best}); mean {mean_score(found):.3f}"])


def as_record(found: Sequence[Prediction]) -> dict:
    """The same for programs: plain values that JSON can hold."""
    pictures = [{"score": each.score, "weakest": each.weakest, "parts": each.parts} for each in found]
    return {
        "measure": MEASURE,
        "of": REDUCTION,
        "mean": mean_score(found),
        "best": best_of(found),
        "pictures": pictures,
    }
