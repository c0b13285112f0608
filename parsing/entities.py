"""From tagged words to entities: which attribute belongs to which noun, and who wears, holds or has what.

Covers what the parser published with SynGen and ToMe (arXiv 2306.08877, 2411.07132) covers, and differs on purpose:
relative clauses of every noun are read, not the first noun's; the noun of "the dog is red" is the dog; sub-objects and
possessives are found.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from .binding import Entity, Phrase, Span, SubObject, with_unique_names
from .excluded import Excluded
from .phrases import NounPhrase, noun_phrases
from .relations import COPULAS, Relations
from .syntax import PlainPrompt
from .tagging import Word, tag


def find_entities(pipeline: Any, prompt: PlainPrompt, excluded: Excluded) -> tuple[tuple[Entity, ...], list[str]]:
    """The entities of a prompt in order, and notes on what was left out.

    Args:
        pipeline: a spaCy pipeline with tagger and dependency parser.
        prompt: spans of the result refer to its ``text``.
        excluded: nouns that become no entities; what they own does.
    """
    words = tag(pipeline, prompt)
    phrases = noun_phrases(words)
    left_out = {n for n, phrase in enumerate(phrases) if _is_excluded(words, phrase, prompt.text, excluded)}
    relations = Relations(words, phrases, left_out)
    lone = {n for n in range(len(phrases)) if n not in left_out and _is_lone_embedding(words, n, relations, prompt)}
    builder = _Builder(words, phrases, relations, prompt.text)
    entities = [
        builder.entity(n)
        for n in range(len(phrases))
        if n not in left_out | lone | relations.absorbed and relations.owner(n) is None
    ]
    notes = []
    if left_out:
        notes.append(f"left out, as nouns on the list of excluded ones: {builder.names(left_out)}.")
    if lone:
        notes.append(f"no entity, as nothing is said of it: {builder.names(lone)}.")
    return with_unique_names(entities), notes


def _is_excluded(words: list[Word], phrase: NounPhrase, text: str, excluded: Excluded) -> bool:
    head = words[phrase.head]
    before = words[phrase.start - 1] if phrase.start else None
    after = words[phrase.end] if phrase.end < len(words) else None
    forms = {head.lower, head.lemma, _text(words, phrase.noun, text).lower()}
    if forms & excluded.always or (after and after.lower == "of" and forms & excluded.before_of):
        return True
    placed = before is not None and before.kind == "preposition" and before.lower != "of"
    described = phrase.attributes or (after and after.lemma in COPULAS)
    return bool(forms & excluded.background) and (placed or not described)


def _is_lone_embedding(words: list[Word], n: int, relations: Relations, prompt: PlainPrompt) -> bool:
    """An embedding that stands alone is a style or a quality more often than a thing."""
    phrase = relations.phrases[n]
    return (
        words[phrase.head].span in prompt.embeddings
        and not phrase.determined
        and not phrase.attributes
        and not relations.says_anything_of(n)
    )


class _Builder:
    """Turns word indices into entities with characters."""

    def __init__(self, words: list[Word], phrases: list[NounPhrase], relations: Relations, text: str):
        self.words, self.phrases, self.relations, self.text = words, phrases, relations, text

    def entity(self, n: int) -> Entity:
        phrase = self.phrases[n]
        noun = self._phrase(phrase.noun)
        said = (*phrase.attributes, *self.relations.predicates.get(n, ()))
        owned = [sub for sub in self.relations.owners if self.relations.owner(sub) == n]
        return Entity(
            name=noun.text.lower(),
            noun=noun,
            attributes=tuple(self._phrase(attribute) for attribute in said),
            sub_objects=tuple(self._sub_object(sub) for sub in sorted(owned)),
            count=phrase.count,
        )

    def names(self, numbers: Iterable[int]) -> str:
        return ", ".join(_text(self.words, self.phrases[n].noun, self.text) for n in sorted(numbers))

    def _sub_object(self, n: int) -> SubObject:
        """Its phrase is all from "wearing" on; what is said of it elsewhere ("her hat is red") belongs to it too."""
        whole = range(self.relations.owners[n][1], self.phrases[n].end)
        said = [i for attribute in self.relations.predicates.get(n, ()) for i in attribute]
        return SubObject(self._phrase((*whole, *said)), self._phrase(self.phrases[n].noun))

    def _phrase(self, indices: Iterable[int]) -> Phrase:
        indices = tuple(indices)
        runs: list[list[int]] = []
        for i in indices:
            if runs and i == runs[-1][-1] + 1:
                runs[-1].append(i)
            else:
                runs.append([i])
        spans = tuple(Span(self.words[run[0]].span.start, self.words[run[-1]].span.end) for run in runs)
        return Phrase(_text(self.words, indices, self.text), spans)


def _text(words: list[Word], indices: tuple[int, ...], text: str) -> str:
    """The prompt's text over the words; of what stands between them only commas and conjunctions."""
    parts = [text[slice(*words[indices[0]].span)]]
    for a, b in pairwise(indices):
        joining = all(words[i].kind in ("conjunction", "punctuation") for i in range(a + 1, b))
        gap = text[words[a].span.end : words[b].span.start] if joining else " "
        parts += [gap, text[slice(*words[b].span)]]
    return "".join(parts)
