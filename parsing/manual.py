"""Entities written by the user, or by the node's chips: ``cat: black, wearing sunglasses | dogs x2: white``. Needs no
spaCy and always wins."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches

from .binding import Entity, Phrase, Span, SubObject, with_unique_names
from .lexicon import COLORS, CONJUNCTIONS, DETERMINERS, HAVING, WEARING

SEPARATORS = re.compile(r"[\s,:|]+")
"""What may stand between words of the prompt, and is written as a space, as it has a meaning in the syntax."""

COUNTED = re.compile(r"(.+?)\s+x(\d+)")
APART = re.compile(r"(?:^|(?<=\s))\.\.\.(?=\s)")
HAD = "+"
NO_ENTITIES = "|"


def read_entities(description: str, text: str) -> tuple[Entity, ...]:
    """Finds the described words in the prompt.

    Entities are separated by ``|`` or line ends, a noun from what belongs to it by ``:``, phrases by ``,``. A noun
    written again means its next occurrence and "dog 2" the second one; other words are looked for nearest to their
    noun. "dogs x2" are two dogs. ``...`` joins words of a phrase that stand apart in the prompt. A phrase is something
    that the entity wears, holds or has if it begins with a word for that, or with ``+``: "wearing a hat", "+ red hat".
    Its noun is its last word, or what stands after the last ``...``, or after a ``...`` that joins nothing, as in
    "+ ... teddy bear". A lone ``|`` is no entity at all.

    Args:
        description: in the syntax above.
        text: the prompt without weights and escapes, which the spans of the result refer to.

    Raises:
        ValueError: an entry without a noun, or words that the prompt does not have; the message lists all of these.
    """
    entries = [_split(entry) for entry in re.split(r"[|\n]", description) if entry.strip()]
    finder = _Finder(text)
    nouns = [finder.noun(noun) for noun, _ in entries]
    found = []
    for (noun, count), (_, parts) in zip(nouns, entries, strict=True):
        belongs = [finder.part(part, noun) for part in parts]
        if noun is not None and None not in belongs:
            found.append(_entity(noun, count, belongs))
    if finder.missing:
        raise ValueError(f'In "entities" but not in the prompt: {"; ".join(finder.missing)}. The prompt reads: {text}')
    return with_unique_names(found)


def write_entities(entities: Iterable[Entity], text: str) -> str:
    """The entities in the manual syntax, for the user to change: what ``read_entities`` makes the same of."""
    entries = []
    for entity in entities:
        attributes = [write_phrase(attribute, text) for attribute in entity.attributes]
        belongs = [*filter(None, attributes), *(write_sub_object(sub, text) for sub in entity.sub_objects)]
        noun = write_phrase(entity.noun, text) + (f" x{entity.count}" if entity.count > 1 else "")
        entries += [f"{noun}: {', '.join(belongs)}" if belongs else noun] if noun else []
    return " | ".join(entries) or NO_ENTITIES


def write_phrase(phrase: Phrase, text: str) -> str:
    """The words of a noun or attribute."""
    return _joined(phrase.spans, text)


def write_sub_object(sub: SubObject, text: str) -> str:
    """The words of a sub-object, its noun last, so that it is known."""
    spans, noun = list(sub.phrase.spans), sub.noun.spans
    if len(spans) == 1 and noun == (_last_word(spans[0], text),):
        words = named(spans[0], text)
    else:
        for of_noun in noun:
            spans = [rest for span in spans for rest in _without(span, of_noun, text)]
        begins = [] if spans and len(noun) == 1 else [""]
        words = " ... ".join([*(named(span, text) for span in spans), *begins, _joined(noun, text)]).strip()
        spans += noun
    return words if _opens_sub_object(spans, text) else f"{HAD} {words}"


def _joined(spans: Iterable[Span], text: str) -> str:
    return " ... ".join(named(span, text) for span in spans)


def _without(span: Span, noun: Span, text: str) -> list[Span]:
    """What is left of a span before and after the noun, without the space around."""
    if not span.overlaps(noun):
        return [span]
    parts = []
    for start, end in ((span.start, noun.start), (noun.end, span.end)):
        words = text[start:end]
        if words.strip():
            start += len(words) - len(words.lstrip())
            parts.append(Span(start, start + len(words.strip())))
    return parts


def occurrences(words: str, text: str) -> list[Span]:
    """Where a text has the words, upper or lower case; of "dog 2", where it has no such words, the second "dog"."""
    parts = [word for word in SEPARATORS.split(words) if word]
    if not parts:
        return []
    pattern = SEPARATORS.pattern.join(map(re.escape, parts))
    within = rf"(?<!{_alike(parts[0][0])}){pattern}(?!{_alike(parts[-1][-1])})"
    spans = [Span(*m.span()) for m in re.finditer(within, text, re.IGNORECASE)]
    numbered = re.fullmatch(r"(.+?)\s+#?(\d+)", words)
    if spans or not numbered:
        return spans
    number = int(numbered[2])
    return occurrences(numbered[1], text)[number - 1 : number] if number else []


def _alike(character: str) -> str:
    """The characters that are of one word with this one: "hat" is a word of "straw_hat", and "mm" of "50mm"."""
    return r"[^\W\d_]" if character.isalpha() else r"\d" if character.isdigit() else r"(?!)"


def named(span: Span, text: str) -> str:
    """The words at the span, with their number if the text has them more than once; "player #1" if "player 1" is in the
    text and means something else."""
    words = SEPARATORS.sub(" ", text[slice(*span)]).strip()
    spans = occurrences(words, text)
    if len(spans) < 2 or span not in spans:
        return words
    number = spans.index(span) + 1
    return f"{words} {number}" if occurrences(f"{words} {number}", text) == [span] else f"{words} #{number}"


def _split(entry: str) -> tuple[str, list[str]]:
    noun, _, rest = entry.partition(":")
    if not noun.strip():
        raise ValueError(
            f'"{entry.strip()}" in "entities" has no noun before the colon. Write it like "cat: black, wearing a hat".'
        )
    return noun.strip(), [part.strip() for part in rest.split(",") if part.strip()]


def _entity(noun: Phrase, count: int, belongs: list[Phrase | SubObject]) -> Entity:
    return Entity(
        name=noun.text.lower(),
        noun=noun,
        attributes=tuple(part for part in belongs if isinstance(part, Phrase)),
        sub_objects=tuple(part for part in belongs if isinstance(part, SubObject)),
        count=count,
    )


def _opens_sub_object(spans: Iterable[Span], text: str) -> bool:
    """Whether words begin as "wearing a hat" does; "wearing red" and "in pale green" say how someone looks."""
    first, *rest = " ".join(text[slice(*span)] for span in spans).lower().split()
    clad = first in WEARING | {"in"} and rest and rest[-1] in COLORS and DETERMINERS.isdisjoint(rest)
    return first in HAVING and bool(rest) and not clad


def _last_word(span: Span, text: str) -> Span:
    return Span(span.end - len(text[slice(*span)].split()[-1]), span.end)


class _Finder:
    """Looks words up in the prompt, remembers which characters are taken and what was not found."""

    def __init__(self, text: str):
        self.text = text
        self.taken: set[Span] = set()
        self.missing: list[str] = []

    def noun(self, words: str) -> tuple[Phrase | None, int]:
        """The words' first occurrence that is not taken, or the one with the number written after them; and how many
        things they are."""
        counted = None if occurrences(words, self.text) else COUNTED.fullmatch(words)
        words, count = (counted[1], max(int(counted[2]), 1)) if counted else (words, 1)
        pieces = [self._next(piece.strip()) for piece in APART.split(words) if piece.strip()]
        return None if None in pieces else self._phrase(pieces), count

    def part(self, words: str, noun: Phrase | None) -> Phrase | SubObject | None:
        """What belongs to the noun, each of its words where the prompt has them nearest to it."""
        had, words = words.startswith(HAD), words.removeprefix(HAD).strip()
        parts = [part.strip() for part in APART.split(words)]
        pieces = [self._nearest(part, noun) for part in parts if part]
        if None in pieces:
            return None
        phrase = self._phrase(pieces)
        if not had and not _opens_sub_object(pieces, self.text):
            return phrase
        if "" in parts:
            own = pieces[-parts[::-1].index("") :]
        else:
            own = [pieces[-1] if len(parts) > 1 else _last_word(pieces[0], self.text)]
        return SubObject(phrase, self._phrase(own))

    def _next(self, words: str) -> Span | None:
        return self._take(words, [span for span in occurrences(words, self.text) if span not in self.taken])

    def _nearest(self, words: str, noun: Phrase | None) -> Span | None:
        """The words' occurrence nearest to the noun, preferably one that is not taken."""
        start, end = noun.spans[0] if noun else (0, 0)

        def distance(span: Span) -> tuple[bool, int]:
            return span in self.taken, max(span.start - end, start - span.end)

        return self._take(words, sorted(occurrences(words, self.text), key=distance))

    def _phrase(self, pieces: list[Span]) -> Phrase:
        """The pieces in the order of the prompt; what only white space parts is one. Of what stands between others, the
        phrase's text has commas and conjunctions."""
        spans: list[Span] = []
        words = ""
        for piece in sorted(pieces):
            gap = self.text[spans[-1].end : piece.start] if spans else ""
            if spans and not gap.strip():
                spans[-1] = Span(spans[-1].start, piece.end)
            else:
                spans.append(piece)
            joining = CONJUNCTIONS.issuperset(re.findall(r"\w+", gap.lower()))
            words += (gap if joining else " ") + self.text[slice(*piece)]
        return Phrase(words, tuple(spans))

    def _take(self, words: str, spans: list[Span]) -> Span | None:
        if not spans:
            self.missing.append(self._complaint(words))
            return None
        self.taken.add(spans[0])
        return spans[0]

    def _complaint(self, words: str) -> str:
        if times := len(occurrences(words, self.text)):
            return f'"{words}" once more (the prompt has it {times}x)'
        known = sorted({word.lower() for word in re.findall(r"\w[\w'-]*", self.text)})
        close = [match for word in words.lower().split() for match in get_close_matches(word, known, 1)]
        return f'"{words}"' + (f" (nearest: {', '.join(close)})" if close else "")
