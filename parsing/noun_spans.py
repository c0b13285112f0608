"""The noun phrases of a prompt's entities as they stand in it: "a red car", "a cat wearing sunglasses"."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from .binding import Binding, EncoderTokens, Entity, Phrase, Span
from .lexicon import CONJUNCTIONS, DETERMINERS, HAVING, LINKS
from .tokens import Token, Vocabulary, without_misfits

WORD = re.compile(r"['\u2019]s\b|\w+(?:[-'\u2019]\w+)*")
LAST_WORD = re.compile(r"(\w+)\s+$")
SENTENCE_ENDS = frozenset(".;:!?|\n")


def noun_spans(binding: Binding) -> tuple[Span, ...]:
    """Every phrase that says more of an entity than what it is, in order: the entity with all that stands around it,
    within that the noun with the attributes before it, and within that the sub-objects with their own attributes.
    Articles, possessives and numbers before a phrase belong to it."""
    found = set()
    for entity in binding.entities:
        found.update(_spans_of(entity, binding.text))
    return tuple(sorted(found))


def _spans_of(entity: Entity, text: str) -> Iterable[Span]:
    noun = _whole(entity.noun)
    before = [span for attribute in entity.attributes for span in attribute.spans if span.end <= noun.start]
    everything = [span for phrase in entity.phrases for span in phrase.spans]
    candidates = [(_joined(noun, before, text), noun), (_joined(noun, everything, text), noun)]
    for sub in entity.sub_objects:
        candidates.append((_without_verb(sub.phrase.spans[0], text), _whole(sub.noun)))
    for span, of_noun in candidates:
        if _describes(span, of_noun, text):
            yield _with_determiners(span, text)


def _whole(phrase: Phrase) -> Span:
    return Span(phrase.spans[0].start, phrase.spans[-1].end)


def _joined(noun: Span, spans: Iterable[Span], text: str) -> Span:
    """The noun's span, widened over those of the spans that only linking words and commas keep apart from it."""
    start, end = noun
    spans = sorted(spans)
    for span in reversed(spans):
        if span.start < start and _links(text[span.end : start]):
            start = span.start
    for span in spans:
        if span.end > end and _links(text[end : span.start]):
            end = span.end
    return Span(start, end)


def _links(gap: str) -> bool:
    words = (word.lower().replace("\u2019", "'") for word in WORD.findall(gap))
    return not SENTENCE_ENDS.intersection(gap) and all(word in LINKS | CONJUNCTIONS for word in words)


def _without_verb(span: Span, text: str) -> Span:
    """A sub-object's span from its noun phrase on: "wearing red sunglasses" is "red sunglasses"."""
    words = [match for match in WORD.finditer(text, *span)]
    if len(words) > 1 and words[0].group().lower() in HAVING:
        return Span(words[1].start(), span.end)
    return span


def _describes(span: Span, noun: Span, text: str) -> bool:
    """Whether there is a word besides the noun and its determiners."""
    words = WORD.finditer(text, *span)
    return any(not noun.overlaps(Span(*word.span())) and not _determines(word.group()) for word in words)


def _with_determiners(span: Span, text: str) -> Span:
    start = span.start
    while (word := LAST_WORD.search(text, 0, start)) and _determines(word.group(1)):
        start = word.start()
    return Span(start, span.end)


def _determines(word: str) -> bool:
    return word.lower() in DETERMINERS or word.isdecimal()


def phrase_tokens(
    tokens: Mapping[str, list[list[Token]]],
    empty: Mapping[str, list[list[Token]]],
    vocabularies: Mapping[str, Vocabulary],
    encoders: Sequence[EncoderTokens],
    spans: Sequence[Span],
) -> dict[str, list[list[Token]]]:
    """A chunk for each span in every encoder: its tokens as they are in the prompt, weights included, between start and
    end. A span with more tokens than a chunk has room for is cut.

    Args:
        tokens: those of the whole prompt.
        empty: those of an empty prompt.
    """
    found = {}
    for each in encoders:
        width = vocabularies[each.encoder].width
        rows = [token for chunk in tokens[each.encoder] for token in without_misfits(chunk, width)]
        start, *rest = empty[each.encoder][0]
        chunks = found[each.encoder] = []
        for span in spans:
            words = [rows[row] for row in each.positions([span])[: len(rest) - 1]]
            chunks.append([start, *words, *rest[: len(rest) - len(words)]])
    return found
