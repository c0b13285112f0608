"""Noun phrases: a noun with what stands before it.

Found from word classes and order, with repairs for what small taggers get wrong in prompts; their dependency labels are too
often wrong there ("a diamond pendant" read as a noun followed by an adjective).
"""

from __future__ import annotations

from dataclasses import dataclass

from .lexicon import COLORS, HAVING, MATERIALS, NUMBERS, PATTERNS, QUALITY_NOUNS, QUANTITIES, SHADES
from .tagging import Word

ADJECTIVE_ENDINGS = ("idal", "onal", "ular", "ical", "allic", "ous", "ish", "less", "ful", "ed")


@dataclass(frozen=True)
class NounPhrase:
    """Word indices: the phrase is ``start`` to ``end`` (exclusive), its noun ``noun`` (compounds included), and every item
    of ``attributes`` one attribute, of several words where they are conjoined or shaded ("red and white", "light brown")."""

    start: int
    end: int
    noun: tuple[int, ...]
    attributes: tuple[tuple[int, ...], ...]
    count: int
    determined: bool

    @property
    def head(self) -> int:
        return self.noun[-1]


def noun_phrases(words: list[Word]) -> list[NounPhrase]:
    """All noun phrases of the prompt, in order; they do not overlap."""
    phrases = []
    at = 0
    while at < len(words):
        phrase = _phrase_at(words, at)
        if phrase is not None:
            phrases.append(phrase)
        at = phrase.end if phrase else at + 1
    return phrases


def _phrase_at(words: list[Word], start: int) -> NounPhrase | None:
    begin, count = start, 1
    while begin < len(words) and words[begin].kind in ("determiner", "number"):
        count = _number(words[begin]) or count
        begin += 1
    determined = begin > start
    end = _head_end(words, begin, _content_end(words, begin, determined), determined)
    if end == begin:
        return None
    noun = end - 1
    while noun > begin and words[noun - 1].kind == "noun" and not _describes(words[noun - 1]):
        noun -= 1
    return NounPhrase(start, end, tuple(range(noun, end)), _attributes(words, begin, noun), count, determined)


def _number(word: Word) -> int | None:
    if word.kind != "number":
        return None
    return int(word.lower) if word.lower.isdecimal() else NUMBERS.get(word.lower)


def _describes(noun: Word) -> bool:
    """Whether a word tagged as a noun, standing before another, is an attribute rather than part of the noun."""
    return noun.lower in QUALITY_NOUNS or noun.lower.endswith(ADJECTIVE_ENDINGS)


def _content_end(words: list[Word], begin: int, determined: bool) -> int:
    """Where the run of adjectives and nouns that starts at ``begin`` ends."""
    at = begin
    while at < len(words):
        kind = words[at].kind
        if not (
            kind in ("adjective", "noun", "adverb")
            or (kind == "verb" and _is_mistagged_or_participle(words, begin, at, determined))
            or (kind in ("conjunction", "punctuation") and _joins_attributes(words, begin, at, determined))
        ):
            break
        at += 1
    return at


def _is_mistagged_or_participle(words: list[Word], begin: int, at: int, determined: bool) -> bool:
    """A verb form inside a noun phrase: "a smiling woman", or a noun taken for a verb as in "a yellow rose"."""
    word, before = words[at], words[at - 1] if at > begin else None
    if word.lower in HAVING:
        return False
    nouns = [w for w in words[begin:at] if w.kind == "noun" and not _describes(w)]
    if not nouns:
        return determined or before is not None or (word.tag in ("VBG", "VBN") and word.relation == "amod")
    disagrees = word.tag in ("VB", "VBP") and before.tag == "NN"
    return disagrees and _closed(words, at + 1)


def _joins_attributes(words: list[Word], begin: int, at: int, determined: bool) -> bool:
    """Whether "and" or a comma stands between two attributes of a noun to come: "a red and white ball", "a big, red dog"."""
    if at == begin or at + 1 == len(words):
        return False
    before, after = words[at - 1], words[at + 1]
    if words[at].kind == "punctuation" and not (determined and words[at].lower == ","):
        return False
    substances = COLORS | MATERIALS | PATTERNS
    conjoined_nouns = at - 1 == begin and before.lower in substances and after.lower in substances
    conjoined_adjectives = before.kind == "adjective" and after.kind in ("adjective", "adverb", "verb") or (
        before.kind == "adjective" and after.lower in QUALITY_NOUNS
    )
    if not (conjoined_nouns or conjoined_adjectives):
        return False
    end = _content_end(words, at + 1, determined)
    return end - at > 2 and words[end - 1].kind in ("noun", "adjective", "verb")


def _closed(words: list[Word], at: int) -> bool:
    """Whether a noun phrase that ends before ``at`` cannot go on: the prompt, clause or list item ends there."""
    return at == len(words) or words[at].kind in ("conjunction", "punctuation")


def _head_end(words: list[Word], begin: int, end: int, determined: bool) -> int:
    """The content's end after cutting what cannot be a noun; ``begin`` if there is no noun at all."""
    while end > begin and not _can_be_head(words, begin, end, determined):
        end -= 1
    return end


def _can_be_head(words: list[Word], begin: int, end: int, determined: bool) -> bool:
    word = words[end - 1]
    if word.kind == "noun":
        return True
    if word.kind in ("adverb", "conjunction", "punctuation") or not determined:
        return word.kind == "verb" and end - begin > 1 and words[end - 2].kind == "noun"
    nouns = [w for w in words[begin : end - 1] if w.kind == "noun"]
    return all(_describes(noun) for noun in nouns) or (_closed(words, end) and words[end - 2].kind == "noun")


def _attributes(words: list[Word], begin: int, end: int) -> tuple[tuple[int, ...], ...]:
    """Attributes from the words between determiner and noun; conjoined ones are one attribute without the "and"."""
    groups: list[list[int]] = []
    conjoined = any(words[i].kind == "conjunction" for i in range(begin, end))
    for i in range(begin, end):
        word, before = words[i], words[i - 1] if i > begin else None
        if word.kind in ("conjunction", "punctuation") or word.lower in QUANTITIES:
            continue
        joined = before is not None and (
            before.kind == "conjunction" or (before.kind == "punctuation" and conjoined) or _shades(words, i - 1)
        )
        if joined and groups:
            groups[-1].append(i)
        else:
            groups.append([i])
    return tuple(tuple(group) for group in groups)


def _shades(words: list[Word], at: int) -> bool:
    """Whether a word belongs to the attribute after it: "light brown", "very old", "polka dot"."""
    word, after = words[at], words[at + 1]
    return (
        word.kind == "adverb"
        or (word.lower in SHADES and after.lower in COLORS)
        or (word.lower in PATTERNS and after.lower in PATTERNS)
        or (word.head == at + 1 and word.relation in ("advmod", "npadvmod"))
    )
