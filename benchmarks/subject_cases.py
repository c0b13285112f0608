"""What `subjects.py` compares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

SEED = 9000
"""Subjects of picture i are drawn from this number and i; training had others."""

OTHERS = 23
STEPS, CFG = 20, 5.0
DELAYS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8)
USUAL_DELAY = 0.2
ONE, TWO, BESIDE = "one", "two", "beside a coloured thing"


@dataclass(frozen=True)
class Case:
    """``prompt`` is one of ONE, TWO, BESIDE; no delay: the text alone, by the demo model's own UNet or the one
    ``adapted`` to subjects. ``boxes``: the entities have the halves of the picture; ``focused``: by Object-Focused
    Attention, whatever the subjects' localisation is. ``rendered``: a perfect picture, as the autoencoder leaves it."""

    name: str
    prompt: str
    delay: float | None = USUAL_DELAY
    localisation: str = "off"
    boxes: bool = False
    focused: bool = False
    rendered: bool = False
    adapted: bool = False

    @property
    def count(self) -> int:
        """Subjects in the prompt."""
        return 2 if self.prompt == TWO else 1


ONE_SUBJECT, ONE_TEXT = "one subject", "one, text alone"
TWO_SUBJECTS, BY_ATTENTION = "two subjects", "two, localised by attention"
IN_BOXES, IN_FOCUSED_BOXES = "two, localised by boxes", "two, boxes with Object-Focused Attention"
TWO_TEXT, BESIDE_TEXT = "two, text alone", "beside, text alone"
ADAPTED_TEXT = "beside, text alone by the adapter's UNet"

CASES = (
    Case(ONE_SUBJECT, ONE),
    Case(ONE_TEXT, ONE, delay=None),
    Case("one, autoencoder alone", ONE, rendered=True),
    Case(TWO_SUBJECTS, TWO),
    Case(BY_ATTENTION, TWO, localisation="masks, else attention"),
    Case(IN_BOXES, TWO, localisation="masks", boxes=True),
    Case(IN_FOCUSED_BOXES, TWO, boxes=True, focused=True),
    Case(TWO_TEXT, TWO, delay=None),
    Case("two, autoencoder alone", TWO, rendered=True),
    *(Case(f"delay {delay:g}", BESIDE, delay) for delay in DELAYS),
    Case(BESIDE_TEXT, BESIDE, delay=None),
    Case(ADAPTED_TEXT, BESIDE, delay=None, adapted=True),
)
COMPARED = (
    (ONE_SUBJECT, ONE_TEXT),
    *((other, TWO_SUBJECTS) for other in (BY_ATTENTION, IN_BOXES, IN_FOCUSED_BOXES)),
    (f"delay {DELAYS[-1]:g}", f"delay {DELAYS[0]:g}"),
)


@dataclass(frozen=True, eq=False)
class Task:
    """What a picture has in every case: two shapes, a subject of each with a reference picture and others of the same
    shape, and a colour for the second where that is no subject."""

    shapes: list[str]
    subjects: list[Any]
    references: list[np.ndarray]
    others: list[list[Any]]
    colour: str

    def text(self, case: Case) -> str:
        """The prompt."""
        phrases = [f"a {shape}" for shape in self.shapes[: case.count]]
        if case.prompt == BESIDE:
            phrases.append(f"a {self.colour} {self.shapes[1]}")
        return " and ".join(phrases)
