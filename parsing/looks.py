"""What a thing looks like, where that is said elsewhere than before its noun: predicates, colours, materials."""

from __future__ import annotations

from collections.abc import Sequence

from .antecedents import Antecedents
from .clauses import Clauses
from .kinds import Kinds
from .lexicon import COLORS, DESCRIBING, HUES, MADE, MATERIALS, POSSESSIVES, SHADES
from .phrases import NounPhrase
from .tagging import Word


class Looks(Clauses):
    """``predicates``: phrase -> attributes said of it elsewhere, as word indices. ``_said_of``: absorbed phrase -> that
    which it is said of."""

    def __init__(self, words: list[Word], phrases: list[NounPhrase], excluded: set[int], kinds: Kinds):
        super().__init__(words, phrases, excluded, kinds)
        self.antecedents = Antecedents(words, phrases, kinds)
        self.predicates: dict[int, list[tuple[int, ...]]] = {}
        self._said_of: dict[int, int] = {}

    def _is_colour_alone(self, i: int) -> bool:
        return i < len(self.words) and i not in self.phrase_of and self.words[i].lower in COLORS

    def _clad(self, i: int) -> None:
        """ "Both wearing white", "a woman in black": an attribute of whoever wears it."""
        chain = self.chain(i)
        worn_by = self._meant(i) or ([n for n in chain if self.kinds.lives(n)] or chain)[:1]
        said = self.predicate_words(i + 1) or (i + 1,)
        for n in worn_by:
            self._say(n, (i, *said))

    def _made_of(self, i: int) -> None:
        """ "made of wood", "of gold", "of deep indigo" and "in shades of blue" are attributes."""
        owned, holder = self.starting_at.get(i + 1), self.ending_at.get(i)
        made = i > 0 and self.words[i - 1].lower in MADE
        if owned is None or self.phrases[owned].determined:
            return
        if holder is not None and self.kinds.is_in(holder, HUES):
            first = self.phrases[holder].start
            before = first - 1 if self.words[first - 1].kind == "preposition" else first
            if (owner := next(iter(self.chain(before)), None)) is not None:
                self.absorbed.add(holder)
                self._absorb(owner, owned, before)
        elif made or self.kinds.is_in(owned, MATERIALS | COLORS):
            owner = next(iter(self.chain(i - 1)), None) if made else holder
            self._absorb(owner, owned, i - 1 if made else i)

    def _is_colour(self, n: int) -> bool:
        """Whether the phrase is no more than a colour: "hot pink", "bright lemon yellow"."""
        phrase = self.phrases[n]
        before = self.words[phrase.start : phrase.head]
        shaded = any(word.lower in SHADES for word in before)
        plain = shaded or all(word.kind == "adjective" or word.lower in DESCRIBING for word in before)
        return not phrase.determined and self.words[phrase.head].lower in COLORS and plain

    def _apposed(self, n: int) -> bool:
        """Takes a colour as said of the phrase before it: "a canary, bright yellow, perched ...", "its fur golden",
        "painted blue and white"; whether it was one."""
        phrase = self.phrases[n]
        if not self._is_colour(n):
            return False
        if n - 1 in self._said_of and self.joined(n - 1, n):
            self._absorb(self._said_of[n - 1], n, phrase.start)
            return True
        before = self.ending_at.get(phrase.start)
        if before is not None and self.words[self.phrases[before].start].lower in {*POSSESSIVES, "whose"}:
            self._absorb(before, n, phrase.start)
            return True
        return self._added_after_comma(phrase.start, range(phrase.start, phrase.end))

    def _added_after_comma(self, start: int, said: Sequence[int]) -> bool:
        """Says the words of the determined phrase before the comma at ``start`` - 1, if they reach to the next; whether
        they do."""
        end = said[-1] + 1
        before = self.ending_at.get(start - 1) if start and self.words[start - 1].lower == "," else None
        closed = end == len(self.words) or self.words[end].kind == "punctuation"
        if before is None or not closed or not self.phrases[before].determined or before in self.excluded:
            return False
        if start in self.phrase_of:
            self.absorbed.add(self.phrase_of[start])
        self._say(before, tuple(said))
        return True

    def _described_later(self, n: int) -> None:
        """ "Its fur golden and soft", "tiny and wiry" between commas."""
        end = self.phrases[n].end
        if self.words[self.phrases[n].start].lower in {*POSSESSIVES, "whose"} and (said := self.predicate_words(end)):
            self._say(n, said)
        elif said := self.predicate_words(end + 1):
            self._added_after_comma(end + 1, said)

    def _absorb(self, owner: int | None, absorbed: int, first: int) -> None:
        """Turns a phrase into an attribute of another: the words from ``first`` to its end."""
        if owner is None or owner in self.excluded or owner >= absorbed:
            return
        self.absorbed.add(absorbed)
        self._said_of[absorbed] = owner
        self._say(owner, tuple(range(first, self.phrases[absorbed].end)))

    def _say(self, n: int, words: tuple[int, ...]) -> None:
        """Records words as an attribute of a phrase."""
        self.predicates.setdefault(self.again.get(n, n), []).append(words)

    def _predicate(self, i: int) -> None:
        """ "is red", "is painted red and white", "is a Ferrari"."""
        meant = self._meant(i)
        for other in meant[1:]:
            if said := self.predicate_words(i + 1):
                self._say(other, said)
        subject = meant[0] if meant else self.subject(i)
        if subject is None or subject in self.excluded:
            return
        nominal = self.starting_at.get(i + 1)
        if nominal is not None:
            if (
                self.words[i].lemma in ("be", "become")
                and nominal not in self.excluded
                and not self.kinds.lives(nominal)
            ):
                phrase = self.phrases[nominal]
                self._absorb(subject, nominal, min(i for words in (*phrase.attributes, phrase.noun) for i in words))
            return
        said = self.predicate_words(i + 1)
        if said:
            self._say(subject, said)

    def _meant(self, i: int) -> tuple[int, ...]:
        """The phrases that the pronoun before the verb or preposition at ``i`` means, if there is one."""
        at = i - 1
        while at >= 0 and at not in self.phrase_of and self.skippable(at) and self.words[at].kind != "punctuation":
            at -= 1
        if at < 0 or at in self.phrase_of or not self.antecedents.is_pronoun(at):
            return ()
        return self.antecedents.of(at, self.free_before(at))
