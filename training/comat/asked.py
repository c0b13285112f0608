"""Which nouns of a prompt CoMat's attribute concentration asks for (Jiang et al. 2024, arXiv 2404.03653).

As in its published code: those with attributes, and of few words, as the parser errs with many; none of which there
are two, as a detector cannot tell them apart (the code overlooks a second one without attributes); none on a list of
what has no place in a picture. It finds them by a parser of its own and loses capitalised words; here they are the
entities of a binding. What an entity wears or has is no attribute.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from ...parsing.binding import Binding, Entity
from ...parsing.excluded import has_no_place

MOST_WORDS = 3
"""Of a noun and its attributes."""


class Asked(NamedTuple):
    """An entity whose noun is looked for in the picture, and the rows of the conditioning whose attention is to lie in
    it: those of the noun and its attributes."""

    entity: Entity
    rows: tuple[int, ...]


def asked(binding: Binding) -> tuple[Asked, ...]:
    """In the order of the prompt; those without a row, behind the end of what the text encoder reads, are left out."""
    nouns = Counter(_noun(entity) for entity in binding.entities)
    chosen = [
        Asked(entity, binding.positions((entity.noun, *entity.attributes)))
        for entity in binding.entities
        if 1 < _words(entity) <= MOST_WORDS and nouns[_noun(entity)] == 1 and not has_no_place(entity.noun.text)
    ]
    return tuple(each for each in chosen if each.rows)


def _noun(entity: Entity) -> str:
    return " ".join(entity.noun.text.lower().split())


def _words(entity: Entity) -> int:
    """How many words the noun and its attributes are; a noun of two words ("fire truck") is one with an attribute."""
    return sum(len(phrase.text.split()) for phrase in (entity.noun, *entity.attributes))
