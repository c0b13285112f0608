"""Whom he, she, it, they, both, each and one ... the other ... mean, and what is named a second time."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence

from .kinds import Kinds
from .lexicon import ARTICLES, COLORS, FEMALE, MALE, NUMBERS, ONE, PARTITIVE, PLURAL, POSSESSIVES, SENTENCE_ENDS
from .phrases import NounPhrase
from .tagging import Word

NEUTER = ("it", "its", "itself")


class Antecedents:
    """Finds the phrases that pronouns mean, in the order in which they are asked for: whoever was "he" stays so, and
    is not "she" afterwards."""

    def __init__(self, words: list[Word], phrases: list[NounPhrase], kinds: Kinds):
        self.words, self.phrases, self.kinds = words, phrases, kinds
        self._meant: dict[str, int] = {}
        self._parts = 0

    def is_pronoun(self, i: int) -> bool:
        word = self.words[i]
        return word.lower in FEMALE | MALE | PLURAL | PARTITIVE or word.lower in NEUTER

    def of(self, i: int, candidates: Sequence[int]) -> tuple[int, ...]:
        """The phrases that the pronoun at word ``i`` means.

        Args:
            candidates: phrases before it that belong to no other, nearest first.
        """
        pronoun = self.words[i].lower
        if pronoun in PLURAL:
            return self._several(candidates)
        if pronoun in PARTITIVE or pronoun in NUMBERS:
            return self._part(candidates)
        return self._one(pronoun, candidates)

    def _part(self, candidates: Sequence[int]) -> tuple[int, ...]:
        """The plural some of which is meant, or the next of several that were named one by one."""
        if plurals := [n for n in candidates if self.kinds.is_plural(n) and not self.kinds.is_body(n)]:
            return (plurals[0],)
        named = [n for n in reversed(candidates) if self.kinds.lives(n)]
        self._parts += 1
        return tuple(named[self._parts - 1 : self._parts]) if len(named) > 1 else ()

    def _one(self, pronoun: str, candidates: Sequence[int]) -> tuple[int, ...]:
        key = "f" if pronoun in FEMALE else "m" if pronoun in MALE else "it"
        if key == "it":
            found = [n for n in candidates if self.kinds.can_be(n, pronoun)]
            found = found or [n for n in candidates if not self.kinds.sex(n)]
            found.sort(key=lambda n: not self.kinds.lives(n))
        else:
            taken = {n for other, n in self._meant.items() if other != key}
            found = [n for n in reversed(candidates) if self.kinds.can_be(n, pronoun) and n not in taken]
            found.sort(key=lambda n: (self.kinds.sex(n) != key, not self.kinds.is_person(n)))
            if self._meant.get(key) in found:
                return (self._meant[key],)
        if found and key != "it":
            self._meant[key] = found[0]
        return tuple(found[:1])

    def _several(self, candidates: Sequence[int]) -> tuple[int, ...]:
        """All of the living, or of the things if none lives; a plural alone if it is the nearest."""
        living = [n for n in candidates if self.kinds.lives(n)] or list(candidates)
        if living and self.kinds.is_plural(living[0]):
            return (living[0],)
        return tuple(reversed(living))

    def partitive(self, n: int) -> int | None:
        """The index of "one" in "one black" or "a black one", if the phrase is one like that."""
        phrase = self.phrases[n]
        noun = self.words[phrase.head]
        if self._is_one_of_several(n):
            return phrase.start
        if phrase.start == 0:
            return None
        if noun.lower == "one":
            return phrase.head
        if noun.lower not in COLORS and noun.kind not in ("adjective", "verb"):
            return None
        opens = {word.lower for word in self.words[phrase.start : phrase.end - 1]} & (PARTITIVE | set(NUMBERS))
        return phrase.start if opens else None

    def _is_one_of_several(self, n: int) -> bool:
        """ "One calico, one cream" after "three kittens"."""
        ones = [m for m, phrase in enumerate(self.phrases) if self.words[phrase.start].lower == "one"]
        bare = not (self.kinds.lives(n) or self.kinds.is_worn(n) or self.kinds.is_body(n) or self.kinds.is_big(n))
        bare = bare and not self.phrases[n].attributes
        return n in ones and len(ones) > 1 and bare and any(self.kinds.is_plural(m) for m in range(ones[0]))

    def named_before(self, n: int, again: Container[int]) -> int | None:
        """The phrase that names the same thing for the first time: "a fox and a hound; the fox wears a hat"."""
        phrase = self.phrases[n]
        if self.words[phrase.start].lower not in ("the", "this", "that", "these", "those"):
            return None

        def same(m: int) -> bool:
            words = [self.words[i].lemma for i in self.phrases[m].noun]
            return words == [self.words[i].lemma for i in phrase.noun]

        said = [self.words[i].lower for attribute in phrase.attributes for i in attribute]
        former = [m for m in range(n) if m not in again and same(m)]
        if len(former) != 1 or self.kinds.is_plural(former[0]) != self.kinds.is_plural(n):
            return None
        first = self.phrases[former[0]]
        if not set(said) <= {self.words[i].lower for i in range(first.start, first.end)}:
            return None
        new = self.words[first.start].lower in {*ARTICLES, *NUMBERS, *POSSESSIVES} or not first.determined
        between = {word.lower for word in self.words[first.end : phrase.start]}
        apart = between & {",", *SENTENCE_ENDS} or (new and between - {"and", "or"})
        return former[0] if apart else None

    def described_before(
        self, n: int, again: Container[int], predicates: Mapping[int, Sequence[tuple[int, ...]]]
    ) -> int | None:
        """The phrase that "the tall one" means, if only one before it is said to be so."""
        phrase = self.phrases[n]
        if self.words[phrase.head].lower not in ONE or self.words[phrase.start].lower != "the":
            return None
        said = {self.words[i].lower for attribute in phrase.attributes for i in attribute}

        def looks(m: int) -> set[str]:
            attributes = (*self.phrases[m].attributes, *predicates.get(m, ()))
            return {self.words[i].lower for attribute in attributes for i in attribute}

        former = [m for m in range(n) if m not in again and said <= looks(m)]
        return former[0] if len(former) == 1 else None
