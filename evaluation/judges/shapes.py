"""The judge of the demo world: the detector of its shapes, asked in words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from ...parsing.lexicon import NUMBERS
from ...world.names import COLOURS, MARKS, SHAPES
from ..wanted import singular
from .judging import PROBABILITY
from .questions import Question

if TYPE_CHECKING:
    from ..detect import Detected

NAME = "demo world"
FILLING = frozenset("is are there a an any the do does have has having with and of exactly white".split())
"""Words that ask for nothing; every mark is white."""


@dataclass(frozen=True)
class ShapesJudge:
    """Answers 1 or 0: whether a thing of that shape, colour and mark is there, or exactly as many as are asked for."""

    name: str = NAME
    measures: ClassVar[str] = PROBABILITY

    def answer(self, picture: torch.Tensor, questions: Sequence[Question]) -> list[float]:
        """For a picture ``(H, W, 3)`` in 0..1.

        Raises:
            ValueError: a question is not of the shapes world.
        """
        from ..detect import detect

        found = detect(picture.cpu().float().numpy())
        return [float(holds(question.text, found)) for question in questions]


def holds(question: str, found: Sequence[Detected]) -> bool:
    """Whether a question is to be answered yes of the things found.

    Raises:
        ValueError: it has other words than those of the shapes world, several shapes, or none of them all.
    """
    words = [singular(word) for word in re.findall(r"[\w-]+", question.lower()) if word not in FILLING]
    numbers = [NUMBERS[word] for word in words if word in NUMBERS]
    shapes, colours, marks = ([word for word in words if word in known] for known in (SHAPES, COLOURS, MARKS))
    unknown = [word for word in words if word not in (*NUMBERS, *SHAPES, *COLOURS, *MARKS)]
    if unknown or len(shapes) > 1 or not (*shapes, *colours, *marks):
        named = "several shapes" if shapes else "neither shape, colour nor mark"
        problem = f"it does not know: {', '.join(unknown)}" if unknown else f"the question names {named}"
        raise ValueError(
            f'The judge "{NAME}" cannot answer "{question}": {problem}. It knows the shapes {", ".join(SHAPES)}, the '
            f"colours {', '.join(COLOURS)} and the marks {', '.join(MARKS)}."
        )
    fitting = [
        thing
        for thing in found
        if all(thing.shape == shape for shape in shapes)
        and all(thing.colour == colour for colour in colours)
        and all(thing.mark == mark for mark in marks)
    ]
    return len(fitting) == numbers[0] if numbers else bool(fitting)
