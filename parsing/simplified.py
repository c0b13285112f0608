"""The prompt with its bare entities: "a red car and a white sheep" becomes "a car and a sheep" (ToMe, arXiv 2411.07132,
end token substitution)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from .binding import Binding, Entity, Phrase, Span
from .lexicon import ARTICLES, CONJUNCTIONS, DETERMINERS, LINKS, PLACES, POSSESSIVES, VOWELS_SAID, VOWELS_UNSAID

WORD = re.compile(r"[^\W_]+(?:[-_][^\W_]+)*|['\u2019]s?\b|[^\w\s]|_")
ENDS = frozenset(".;:!?)]")
PAIRS = {"(": ")", "[": "]", '"': '"'}


class Token(NamedTuple):
    """A word or a mark, and the white space before it."""

    text: str
    gap: str
    span: Span

    @property
    def lower(self) -> str:
        return self.text.lower().replace("\u2019", "'")


def simplified_prompt(binding: Binding) -> str:
    """The binding's text without the attributes and sub-objects of its entities, and without the words that joined
    them: a prompt of the same scene, which says nothing of its entities but what they are. A text in which nothing
    belongs to an entity is returned as it is.
    """
    draft = _Draft(binding.text, binding.entities)
    for number, entity in enumerate(binding.entities):
        for phrase in _removed(entity, binding.entities):
            draft.remove(phrase, number, follows=phrase.spans[0].start > entity.noun.spans[0].start)
    while draft.drop_loose_marks():
        pass
    return draft.text()


def _removed(entity: Entity, entities: tuple[Entity, ...]) -> list[Phrase]:
    """What goes with the entity. A sub-object that holds another entity ("a cat with a dog", entities by hand) stays,
    so that no entity is lost."""
    nouns = [span for other in entities for span in other.noun.spans]
    subs = [sub.phrase for sub in entity.sub_objects if not _overlaps(sub.phrase.spans, nouns)]
    return [*entity.attributes, *subs]


def _overlaps(spans: Iterable[Span], others: Iterable[Span]) -> bool:
    others = tuple(others)
    return any(span.overlaps(other) for span in spans for other in others)


class _Draft:
    """The tokens of a text, and for each the entities on whose account it was removed (none: it stays)."""

    def __init__(self, text: str, entities: Iterable[Entity]):
        self.original = text
        self.tokens = _tokens(text)
        self.removed: list[set[int]] = [set() for _ in self.tokens]
        nouns = [span for entity in entities for span in entity.noun.spans]
        self.nouns = {i for i, token in enumerate(self.tokens) if _overlaps([token.span], nouns)}

    def remove(self, phrase: Phrase, entity: int, follows: bool) -> None:
        """Removes the phrase, never an entity's noun; where it follows its own noun, also the words that link it to
        that: "that is", "painted", "with a"."""
        found = [i for i, token in enumerate(self.tokens) if _overlaps([token.span], phrase.spans)]
        for i in found:
            if i not in self.nouns:
                self.removed[i].add(entity)
            before = i - 1
            while follows and before >= 0 and before not in self.nouns and self.tokens[before].lower in LINKS:
                self.removed[before].add(entity)
                before -= 1
        if follows and found and self._is_place_on_owner(found[-1] + 1):
            for i in range(found[-1] + 1, found[-1] + 4):
                self.removed[i].add(entity)

    def _is_place_on_owner(self, i: int) -> bool:
        """Whether three words say where on its owner a thing is: "on its head"."""
        words = [token.lower for token in self.tokens[i : i + 3]]
        return len(words) == 3 and words[0] in PLACES and words[1] in POSSESSIVES and i + 2 not in self.nouns

    def drop_loose_marks(self) -> bool:
        """Removes each conjunction and mark that has nothing left to join. True if there was one."""
        loose = [i for i, token in enumerate(self.tokens) if not self.removed[i] and self._is_loose(i, token.lower)]
        if loose:
            owners = self._beside(loose[0], -1) or self._beside(loose[0], 1)
            self.removed[loose[0]] |= owners
        return bool(loose)

    def _is_loose(self, i: int, word: str) -> bool:
        """Whether removals beside it leave the conjunction or mark at ``i`` without a use."""
        left, right = self._beside(i, -1), self._beside(i, 1)
        if not (left or right):
            return False
        before, after = self._kept(i, -1), self._kept(i, 1)
        if word in CONJUNCTIONS:
            return bool(left & right) or before is None or after is None or after in ENDS
        if word == ",":
            first_of_two = after == "," and bool(right)
            useless = before is None or after is None or after in ENDS
            return bool(left & right) or first_of_two or useless or (bool(left) and self._goes_on(i))
        return (bool(right) and after is not None and PAIRS.get(word) == after) or self._closes_nothing(i, word)

    def _closes_nothing(self, i: int, word: str) -> bool:
        """Whether the bracket or quote at ``i`` closes one that was removed, with all in between."""
        while i > 0 and self.removed[i - 1]:
            i -= 1
            if PAIRS.get(self.tokens[i].text) == word:
                return True
        return False

    def _goes_on(self, comma: int) -> bool:
        """Whether the sentence goes on after a comma that closed what was removed: "The dog, wearing a hat, chases a
        cat", but not "a dog, wearing a hat, a cat"."""
        after = [i for i in range(comma + 1, len(self.tokens)) if not self.removed[i]][:2]
        words = [self.tokens[i].lower for i in after]
        if words and words[0] in CONJUNCTIONS:
            return True
        return len(words) == 2 and words[0].isalpha() and words[0] not in DETERMINERS and words[1] in DETERMINERS

    def _beside(self, i: int, step: int) -> set[int]:
        """The entities on whose account the next token was removed."""
        return self.removed[i + step] if 0 <= i + step < len(self.tokens) else set()

    def _kept(self, i: int, step: int) -> str | None:
        """The next token that stays."""
        i += step
        while 0 <= i < len(self.tokens) and self.removed[i]:
            i += step
        return self.tokens[i].lower if 0 <= i < len(self.tokens) else None

    def text(self) -> str:
        """What stays, each "a" or "an" in the form that its new neighbour asks for."""
        if not any(self.removed):
            return self.original
        kept = [i for i, owners in enumerate(self.removed) if not owners]
        written = ""
        for place, i in enumerate(kept):
            token = self.tokens[i]
            after = kept[place + 1] if place + 1 < len(kept) else i + 1
            changed = after > i + 1 and token.lower in ARTICLES
            word = _article(token.text, self.tokens[after].text) if changed else token.text
            joined = not written or (written[-1] in "([" and self.removed[i - 1])
            written += ("" if joined else token.gap) + word
        return written


def _tokens(text: str) -> list[Token]:
    tokens, end = [], 0
    for match in WORD.finditer(text):
        tokens.append(Token(match.group(), text[end : match.start()], Span(*match.span())))
        end = match.end()
    return tokens


def _article(article: str, word: str) -> str:
    """The article's form before the word, written with the same capitals."""
    lower = word.lower()
    vowel = lower[0] in "aeiou" and not lower.startswith(VOWELS_UNSAID)
    form = "an" if vowel or lower.startswith(VOWELS_SAID) else "a"
    return form.capitalize() if article[0].isupper() else form
