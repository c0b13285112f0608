"""What a prompt says is not there: "no people", "a lion without a mane", "not a red apple but a green pear"."""

from __future__ import annotations

from .lexicon import ABSENCE
from .phrases import NounPhrase
from .tagging import Word

JOINING = ("or", "nor", "and", ",")


def absent_phrases(words: list[Word], phrases: list[NounPhrase]) -> set[int]:
    """The indices of the phrases of things that are not there."""
    found: set[int] = set()
    for n, phrase in enumerate(phrases):
        if _is_denied(words, phrase) or (n - 1 in found and _goes_on(words, phrases[n - 1], phrase)):
            found.add(n)
    return found


def _is_denied(words: list[Word], phrase: NounPhrase) -> bool:
    before = words[phrase.start - 1].lower if phrase.start else ""
    first = words[phrase.start].lower
    if first in ABSENCE or before in ABSENCE or before in ("not", "nor", "neither", "never"):
        return True
    earlier = words[phrase.start - 2].lower if phrase.start > 1 else ""
    if earlier in ("not", "n't", "never") and words[phrase.start - 1].kind == "verb":
        return True
    return before in ("any", "of", "than") and earlier in (*ABSENCE, "not", "free", "instead", "rather")


def _goes_on(words: list[Word], denied: NounPhrase, phrase: NounPhrase) -> bool:
    """Whether the denial covers the next phrase too: "without leaves or flowers", not "no cars and a red bus"."""
    between = [word.lower for word in words[denied.end : phrase.start]]
    if not between or any(word not in JOINING for word in between):
        return False
    if "or" in between or "nor" in between:
        return True
    return "and" in between and not phrase.determined and not phrase.attributes
