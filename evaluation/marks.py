"""What became of the marks that a prompt asks for: whether a mark is missing, or on another thing."""

from __future__ import annotations

from collections.abc import Sequence

from .detect import Detected
from .score import ImageScore

MARK_FATES = ("right", "exchanged", "moved", "missing", "left out")
"""Of a mark that is asked for:

- right: its thing carries it;
- exchanged: another thing carries it, and its own carries a mark that another should;
- moved: another thing carries it, and its own carries none of the others' or is not there;
- missing: its thing is there, and nothing carries it;
- left out: neither its thing is there nor the mark.
"""

PRESENT = MARK_FATES[:3]


def mark_fates(score: ImageScore, found: Sequence[Detected]) -> list[str]:
    """The fate of each mark asked for in a judged picture, in the order of the things; ``found`` was judged."""
    asked = [outcome for outcome in score.judged if outcome.wanted.mark is not None]
    marks = [outcome.wanted.mark for outcome in asked]
    own = [None if outcome.found is None else found[outcome.found].mark for outcome in asked]
    right = {outcome.found for outcome, mark in zip(asked, own, strict=True) if outcome.wanted.mark == mark}
    elsewhere = [thing.mark for column, thing in enumerate(found) if column not in right]
    fates = []
    for index, outcome in enumerate(asked):
        if outcome.found in right:
            fates.append("right")
        elif outcome.wanted.mark in elsewhere:
            others = marks[:index] + marks[index + 1 :]
            fates.append("exchanged" if own[index] in others else "moved")
        else:
            fates.append("left out" if outcome.found is None else "missing")
    return fates
