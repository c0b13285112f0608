"""Whom he, she, it, they, both, each and one ... the other ... mean."""

from __future__ import annotations

from collections.abc import Sequence

from .kinds import Kinds
from .lexicon import FEMALE, MALE, NUMBERS, PARTITIVE, PLURAL
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
        if plurals := [n for n in candidates if self.kinds.is_plural(n)]:
            return (plurals[0],)
        named = [n for n in reversed(candidates) if self.kinds.lives(n)]
        self._parts += 1
        return tuple(named[self._parts - 1 : self._parts]) if len(named) > 1 else ()

    def _one(self, pronoun: str, candidates: Sequence[int]) -> tuple[int, ...]:
        key = "f" if pronoun in FEMALE else "m" if pronoun in MALE else "it"
        if key == "it":
            found = [n for n in candidates if self.kinds.can_be(n, pronoun)]
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
