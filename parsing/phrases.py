"""Noun phrases: a noun with what stands before it.

Found from word classes and order, with repairs for what small taggers get wrong in prompts; their dependency labels
are too often wrong there ("a diamond pendant" read as a noun followed by an adjective).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .lexicon import (
    COLORS,
    COMPOUNDS,
    COVERED,
    DESCRIBING,
    HAVING,
    NUMBERS,
    ONE,
    PAST_TENSE_THINGS,
    PATTERNS,
    PRONOUNS,
    QUANTITIES,
    SHADES,
    SHAPES,
)
from .picture_tags import SUBJECT_WORD
from .tagging import Word

LEADING_FIGURES = re.compile(r"[0-9]+")


@dataclass(frozen=True)
class NounPhrase:
    """Word indices: the phrase is ``start`` to ``end`` (exclusive), its noun ``noun`` (compounds included), and every
    item of ``attributes`` one attribute, of several words where they are conjoined or shaded ("red and white", "light
    brown")."""

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
    while begin < len(words) and (words[begin].kind in ("determiner", "number") or words[begin].lower in NUMBERS):
        count = _number(words[begin]) or count
        begin += 1
    determined = begin > start
    end = _content_end(words, begin, determined)
    after, added_end = _added(words, begin, end)
    end = added_end if after < added_end else _head_end(words, begin, end, determined)
    after = after if after < added_end else end
    if end == begin:
        return None
    noun = _noun_start(words, begin, after)
    if SUBJECT_WORD.fullmatch(words[after - 1].lower):
        count = _number(words[after - 1]) or 1
    attributes = (*_attributes(words, begin, noun), *_attributes(words, after, end))
    return NounPhrase(start, end, tuple(range(noun, after)), attributes, count, determined)


def _added(words: list[Word], begin: int, end: int) -> tuple[int, int]:
    """Start and end of a description that is added to the noun with a weight of its own, as in "a circle (red)"; equal
    if there is none."""
    while end > begin and words[end - 1].kind == "adverb":
        end -= 1
    for at in range(begin + 1, end):
        before, word = words[at - 1], words[at]
        named = before.kind == "noun" or before.lower in SHAPES
        if named and before.weight != word.weight and all(w.lower in COLORS | SHADES for w in words[at:end]):
            return at, end
    return end, end


def _number(word: Word) -> int | None:
    figures = LEADING_FIGURES.match(word.lower)
    return int(figures[0]) if figures else NUMBERS.get(word.lower)


def _noun_start(words: list[Word], begin: int, end: int) -> int:
    """Where the noun begins that ends before ``end``: a known compound or a name has several words."""
    for start in range(begin, end - 1):
        part = words[start:end]
        spelled = (
            " ".join(word.lower for word in part),
            " ".join([*(word.lower for word in part[:-1]), part[-1].lemma]),
        )
        if COMPOUNDS.intersection(spelled) or all(word.proper and word.lower not in DESCRIBING for word in part):
            return start
    return end - 1


def _content_end(words: list[Word], begin: int, determined: bool) -> int:
    """Where the run of adjectives and nouns that starts at ``begin`` ends."""
    at = begin
    while at < len(words):
        kind = words[at].kind
        if _opens_another(words, begin, at) or _leads_to_verb(words, begin, at):
            break
        if not (
            _is_described_one(words, begin, at, determined)
            or kind in ("adjective", "noun", "adverb")
            or (kind == "verb" and _is_mistagged_or_participle(words, begin, at, determined))
            or (kind in ("conjunction", "punctuation") and _joins_attributes(words, begin, at, determined))
        ):
            break
        at += 1
    return at


def _opens_another(words: list[Word], begin: int, at: int) -> bool:
    """Whether a noun phrase in parentheses starts here, behind its noun: "a wizard (purple robe)"."""
    if at == begin or words[at - 1].kind != "noun" or words[at - 1].lower in DESCRIBING:
        return False
    here = words[at].weight
    inside = [word for word in words[at : at + 2] if word.weight == here]
    described = words[at].kind == "adjective" or words[at].lower in DESCRIBING
    return here != words[at - 1].weight and described and len(inside) > 1 and inside[1].kind in ("noun", "adjective")


def _leads_to_verb(words: list[Word], begin: int, at: int) -> bool:
    """Whether the word is an adverb between a noun and its verb: "the designer carefully selected fabrics"."""
    after = words[at + 1] if at + 1 < len(words) else None
    named = at > begin and words[at - 1].kind == "noun" and words[at - 1].lower not in DESCRIBING
    return named and words[at].kind == "adverb" and after is not None and after.kind == "verb"


def _is_described_one(words: list[Word], begin: int, at: int, determined: bool) -> bool:
    """Whether the word is "one" in "a red one"."""
    before = words[at - 1]
    return (
        words[at].lower in ONE
        and determined
        and at > begin
        and (before.kind == "adjective" or before.lower in DESCRIBING)
    )


def _is_mistagged_or_participle(words: list[Word], begin: int, at: int, determined: bool) -> bool:
    """A verb form inside a noun phrase: "a smiling woman", or a noun taken for a verb as in "a yellow rose"."""
    word, before = words[at], words[at - 1] if at > begin else None
    if word.lower in HAVING:
        return False
    if before is None:
        described = word.tag in ("VBG", "VBN") and word.relation == "amod" and word.lower not in COVERED
        return determined or described
    if before.kind != "noun":
        return True
    describes = before.lower in DESCRIBING
    if at + 1 < len(words) and words[at + 1].kind in ("adjective", "noun"):
        return describes and word.tag in ("VBG", "VBN")
    disagrees = word.tag in ("VB", "VBP") and before.tag == "NN"
    uninflected = word.tag in ("VBD", "VBN") and word.lower == word.lemma
    past = word.tag in ("VBD", "VBN") and describes
    return _closed(words, at + 1) and (disagrees or uninflected or past or word.lower in PAST_TENSE_THINGS)


def _joins_attributes(words: list[Word], begin: int, at: int, determined: bool) -> bool:
    """Whether "and" or a comma stands between two attributes of a noun to come: "a red and white ball", "a big, red
    dog"."""
    last, following = at - 1, at + 1
    if words[at].kind == "punctuation":
        if words[at].lower != ",":
            return False
        if following < len(words) and words[following].kind == "conjunction":
            following += 1
    elif last >= begin and words[last].kind == "punctuation":
        last -= 1
    if last < begin or following >= len(words):
        return False
    before, after = words[last], words[following]
    alike = before.lower in DESCRIBING and after.lower in DESCRIBING
    nouns = last == begin and alike and before.lower not in SHAPES
    adjectives = before.kind == "adjective" and after.kind in ("adjective", "adverb", "verb", "noun")
    if words[at].kind == "conjunction" and last > begin:
        adjectives = adjectives and alike
    end = _content_end(words, following, determined)
    while words[end - 1].kind == "adverb":
        end -= 1
    if words[at].kind == "punctuation" and not determined:
        adjectives = alike and any(word.kind == "conjunction" for word in words[at:end])
    return (nouns or adjectives) and end - following > 1 and words[end - 1].kind in ("noun", "adjective", "verb")


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
    if word.lower in ONE:
        return _is_described_one(words, begin, end - 1, determined)
    if word.lower in QUANTITIES | PRONOUNS:
        return False
    if word.kind == "noun":
        return True
    if word.kind in ("adverb", "conjunction", "punctuation") or not determined:
        return word.kind == "verb" and end - begin > 1 and words[end - 2].kind == "noun"
    if all(w.lower in DESCRIBING for w in words[begin : end - 1] if w.kind == "noun"):
        return True
    return words[end - 2].kind == "noun" and _closed(words, end)


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
