"""The words of a prompt one by one, for those who change what belongs together."""

from __future__ import annotations

import re

from .binding import Phrase, Span, SubObject
from .lexicon import DETERMINERS, HAVING

WORD = re.compile(r"[^\W_]+(?:[-'\u2019][^\W_]+)*")


def words(text: str) -> list[Phrase]:
    """Every word of a text."""
    return [Phrase(match.group(), (Span(*match.span()),)) for match in WORD.finditer(text)]


def attributes(sub: SubObject, text: str) -> list[Phrase]:
    """What a sub-object's phrase says of its noun: "big red" of "wearing a big red hat"."""
    found: list[Phrase] = []
    (noun,) = sub.noun.spans[:1]
    for span in sub.phrase.spans:
        for match in WORD.finditer(text, *span):
            word = Span(*match.span())
            opens = word.start == sub.phrase.spans[0].start and match.group().lower() in HAVING
            if opens or word.overlaps(noun) or match.group().lower() in DETERMINERS:
                continue
            if found and not text[found[-1].spans[0].end : word.start].strip():
                word = Span(found.pop().spans[0].start, word.end)
            found.append(Phrase(text[slice(*word)], (word,)))
    return found
