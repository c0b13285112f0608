"""Entities written by the user: ``cat: black, wearing sunglasses | dog: white``. Needs no spaCy and always wins."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches

from .binding import Entity, Phrase, Span, SubObject, with_unique_names
from .lexicon import HAVING


def read_entities(description: str, text: str) -> tuple[Entity, ...]:
    """Finds the described words in the prompt.

    Entities are separated by ``|`` or line ends, a noun from what belongs to it by ``:``, phrases by ``,``. A noun
    written again means its next occurrence and "dog 2" the second one; other words are looked for nearest to their
    noun.

    Args:
        description: in the syntax above.
        text: the prompt without weights and escapes, which the spans of the result refer to.

    Raises:
        ValueError: an entry without a noun, or words that the prompt does not have; the message lists all of these.
    """
    entries = [_split(entry) for entry in re.split(r"[|\n]", description) if entry.strip()]
    finder = _Finder(text)
    nouns = [finder.next(noun) for noun, _ in entries]
    found = []
    for noun, (_, parts) in zip(nouns, entries, strict=True):
        phrases = [finder.nearest(part, noun) for part in parts]
        if noun is not None and None not in phrases:
            found.append(_entity(noun, phrases))
    if finder.missing:
        raise ValueError(f'In "entities" but not in the prompt: {"; ".join(finder.missing)}. The prompt reads: {text}')
    return with_unique_names(found)


def write_entities(entities: Iterable[Entity], text: str) -> str:
    """The entities in the manual syntax, for the user to change: what ``read_entities`` makes the same groups of."""
    entries = []
    for entity in entities:
        belongs = [named(span, text) for phrase in entity.phrases[1:] for span in phrase.spans]
        noun = named(entity.noun.spans[0], text)
        entries.append(f"{noun}: {', '.join(belongs)}" if belongs else noun)
    return " | ".join(entries)


def occurrences(words: str, text: str) -> list[Span]:
    """Where a text has the words, upper or lower case; of "dog 2", where it has no such words, the second "dog"."""
    pattern = r"\s+".join(map(re.escape, words.split()))
    spans = [Span(*m.span()) for m in re.finditer(rf"(?<!\w){pattern}(?!\w)", text, re.IGNORECASE)]
    numbered = re.fullmatch(r"(.+?)\s+(\d+)", words)
    if spans or not numbered:
        return spans
    number = int(numbered[2])
    return occurrences(numbered[1], text)[number - 1 : number] if number else []


def named(span: Span, text: str) -> str:
    """The words at the span, with their number if the text has them more than once."""
    words = text[slice(*span)]
    spans = occurrences(words, text)
    return f"{words} {spans.index(span) + 1}" if len(spans) > 1 and span in spans else words


def _split(entry: str) -> tuple[str, list[str]]:
    noun, _, rest = entry.partition(":")
    if not noun.strip():
        raise ValueError(
            f'"{entry.strip()}" in "entities" has no noun before the colon. Write it like "cat: black, wearing a hat".'
        )
    return noun.strip(), [part.strip() for part in rest.split(",") if part.strip()]


def _entity(noun: Phrase, phrases: list[Phrase]) -> Entity:
    subs = [phrase for phrase in phrases if phrase.text.split()[0].lower() in HAVING]
    return Entity(
        name=noun.text.lower(),
        noun=noun,
        attributes=tuple(phrase for phrase in phrases if phrase not in subs),
        sub_objects=tuple(SubObject(phrase, _last_word(phrase)) for phrase in subs),
    )


def _last_word(phrase: Phrase) -> Phrase:
    word = phrase.text.split()[-1]
    end = phrase.spans[-1].end
    return Phrase(word, (Span(end - len(word), end),))


class _Finder:
    """Looks words up in the prompt, remembers which characters are taken and what was not found."""

    def __init__(self, text: str):
        self.text = text
        self.taken: set[Span] = set()
        self.missing: list[str] = []

    def next(self, words: str) -> Phrase | None:
        """The words' first occurrence that is not taken, or the one with the number written after them."""
        return self._take(words, [span for span in occurrences(words, self.text) if span not in self.taken])

    def nearest(self, words: str, noun: Phrase | None) -> Phrase | None:
        """The words' occurrence nearest to the noun, preferably one that is not taken."""
        start, end = noun.spans[0] if noun else (0, 0)

        def distance(span: Span) -> tuple[bool, int]:
            return span in self.taken, max(span.start - end, start - span.end)

        return self._take(words, sorted(occurrences(words, self.text), key=distance))

    def _take(self, words: str, spans: list[Span]) -> Phrase | None:
        if not spans:
            self.missing.append(self._complaint(words))
            return None
        self.taken.add(spans[0])
        return Phrase(self.text[slice(*spans[0])], (spans[0],))

    def _complaint(self, words: str) -> str:
        if times := len(occurrences(words, self.text)):
            return f'"{words}" once more (the prompt has it {times}x)'
        known = sorted({word.lower() for word in re.findall(r"\w[\w'-]*", self.text)})
        close = [match for word in words.lower().split() for match in get_close_matches(word, known, 1)]
        return f'"{words}"' + (f" (nearest: {', '.join(close)})" if close else "")
