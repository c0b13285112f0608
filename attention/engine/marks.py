"""What conditionings are marked for: subjects that a technique on the model has to inject."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ...parsing.binding import CONDITIONING_KEY

NAME = "Subject Injection"
SUBJECTS_KEY = "semantic_binding_subjects"
"""In a conditioning's dict: the names of the entities that are to get their subjects."""


def check_given(conds: Iterable[Mapping[str, Any]], techniques: Iterable[Any]) -> None:
    """Raise ValueError if a conditioning is marked for subjects that none of the techniques on the model injects."""
    injected = {pair for each in techniques for pair in getattr(each, "injects", ())}
    marked = {(cond[CONDITIONING_KEY], name) for cond in conds for name in cond.get(SUBJECTS_KEY, ())}
    if marked - injected:
        names = sorted(name for _, name in marked - injected)
        raise ValueError(
            f"The sampler was given a conditioning with subjects ({', '.join(names)}), but not the model of {NAME}, so "
            f"that they would not be drawn. Connect the MODEL output of {NAME} to the sampler."
        )
