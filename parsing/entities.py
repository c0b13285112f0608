"""From tagged words to entities: which attribute belongs to which noun, and who wears, holds or has what.

Covers what the parser published with SynGen and ToMe (arXiv 2306.08877, 2411.07132) covers, and differs on purpose:
relative clauses of every noun are read, not the first noun's; the noun of "the dog is red" is the dog; sub-objects and
possessives are found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any

from . import manual, other_syntax, picture_tags
from .absence import absent_phrases
from .binding import Entity, Phrase, Span, SubObject, with_unique_names
from .clauses import COPULAS
from .excluded import Excluded
from .kinds import Kinds
from .language import is_english
from .lexicon import CLOTHES, COLORS, DESCRIBING, ONE, WEARING
from .models import MANUAL_EXAMPLE
from .phrases import NounPhrase, noun_phrases
from .relations import Relations
from .repairs import repaired
from .syntax import PlainPrompt
from .tagging import Word, tag

BY_HAND = f'Name the entities by hand, in "entities", for example: {MANUAL_EXAMPLE}'
NOT_ENGLISH = f"the parser reads English, and this prompt seems to be in another language. Nothing is bound. {BY_HAND}"
NOTHING = f"the prompt has no noun that could be an entity, so nothing will be bound. {BY_HAND}"

PHOTOGRAPHIC = {"black", "white", "sepia"}
PICTURES = {"photo", "photograph", "picture", "image"}
BESIDE = {
    "and",
    "on",
    "in",
    "next",
    "beside",
    "behind",
    "above",
    "under",
    "hanging",
    "leaning",
    "clipped",
    "pinned",
    "taped",
}


def find_entities(pipeline: Any, prompt: PlainPrompt, excluded: Excluded) -> tuple[tuple[Entity, ...], list[str]]:
    """The entities of a prompt in order, and notes on what was left out.

    Args:
        pipeline: a spaCy pipeline with tagger and dependency parser.
        prompt: spans of the result refer to its ``text``.
        excluded: nouns that become no entities; what they own does.
    """
    text, notes = other_syntax.masked(prompt.text)
    if not is_english(text):
        return (), [*notes, NOT_ENGLISH]
    text, said_of_picture = picture_tags.masked(text)
    if said_of_picture:
        notes.append(f"said of the picture, not of a thing in it: {', '.join(said_of_picture)}.")
    words = repaired(tag(pipeline, prompt, text))
    phrases = noun_phrases(words)
    kinds = Kinds(words, phrases)
    absent = absent_phrases(words, phrases)
    seen = [n for n in range(len(phrases)) if n not in absent]
    left_out = {n for n in seen if _is_excluded(words, phrases[n], prompt.text, excluded)}
    unshown = {n for n in seen if n not in left_out and _is_unshown(words, phrases[n], n, kinds)}
    colours = {n for n in unshown if kinds.is_in(n, COLORS)}
    relations = Relations(words, phrases, left_out | (unshown - colours) | absent, kinds)
    aside = left_out | unshown | absent | relations.absorbed | relations.undrawn
    lone = {n for n in range(len(phrases)) if n not in aside and _is_lone_embedding(words, n, relations, prompt)}
    builder = _Builder(words, phrases, relations, prompt.text)
    entities = with_unique_names(
        builder.entity(n) for n in range(len(phrases)) if n not in aside | lone and not relations.owner(n)
    )
    notes += _left_out_notes(
        builder.names,
        {
            "left out, as nouns on the list of excluded ones": left_out,
            "left out, as times, states or qualities": unshown,
            "no entity, as the prompt says it is not there": absent,
            "no entity, as only named as the owner": relations.undrawn,
            "no entity, as nothing is said of it": lone,
        },
    )
    if absent:
        notes.append("models often draw what the prompt says is not there. A negative prompt is surer.")
    notes += map(builder.question, relations.doubtful)
    if relations.doubtful:
        by_hand = manual.write_entities(entities, prompt.text)
        notes.append(f'to correct what was read, change this and write it into "entities": {by_hand}')
    if not entities:
        notes.append(NOTHING)
    return entities, notes


def _left_out_notes(names: Callable[[set[int]], str], reasons: dict[str, set[int]]) -> list[str]:
    return [f"{reason}: {names(numbers)}." for reason, numbers in reasons.items() if numbers]


def _is_excluded(words: list[Word], phrase: NounPhrase, text: str, excluded: Excluded) -> bool:
    head = words[phrase.head]
    if head.lower in ONE:
        return False  # "a red one"
    before = words[phrase.start - 1] if phrase.start else None
    after = words[phrase.end] if phrase.end < len(words) else None
    whole = _text(words, phrase.noun, text).lower()
    forms = {whole} if len(phrase.noun) > 1 else {whole, head.lemma}
    of = after is not None and after.lower == "of"
    placed = before is not None and before.kind == "preposition" and before.lower != "of"
    looks = _looks(words, phrase)
    thing = phrase.determined and looks & DESCRIBING and not looks & PHOTOGRAPHIC and not of and not placed
    thing = thing or _is_dress(words, phrase) or _is_picture(words, phrase)
    if (forms & excluded.always and not thing) or (of and forms & excluded.before_of):
        return True
    described = phrase.attributes or (after and after.lemma in COPULAS)
    scene = after is not None and after.lower == "with"
    return bool(forms & excluded.background) and (placed or scene or not described)


def _is_dress(words: list[Word], phrase: NounPhrase) -> bool:
    """Whether "top" is what someone is dressed in: "a woman in a black top"."""
    before = words[phrase.start - 1].lower if phrase.start else ""
    worn = before in WEARING or before in ("in", "with")
    return worn and phrase.determined and bool(phrase.attributes) and words[phrase.head].lower in CLOTHES


def _is_picture(words: list[Word], phrase: NounPhrase) -> bool:
    """Whether a picture is a thing among others: "a framed photo and a clock", "a stack of old photos"."""
    if words[phrase.head].lemma not in PICTURES or not phrase.attributes:
        return False
    after = [word.lower for word in words[phrase.end : phrase.end + 2]] or [""]
    before = words[phrase.start - 1].lower if phrase.start else ""
    beside = after[0] in BESIDE and not PHOTOGRAPHIC.intersection(after)
    return before == "of" or (phrase.determined and beside)


def _looks(words: list[Word], phrase: NounPhrase) -> set[str]:
    """The words of its attributes, "diamond-shaped" as two."""
    return {part for attribute in phrase.attributes for i in attribute for part in words[i].lower.split("-")}


def _is_unshown(words: list[Word], phrase: NounPhrase, n: int, kinds: Kinds) -> bool:
    """Whether it is a time or a quality, named after a preposition or without an article: "at dawn", "pure joy"."""
    before = words[phrase.start - 1] if phrase.start else None
    placed = before is not None and before.kind == "preposition" and before.lower != "of"
    looks = _looks(words, phrase)
    unshown = kinds.is_time(n) or (kinds.is_quality(n) and not looks & DESCRIBING)
    return unshown and (placed or not phrase.determined)


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
        owned = [sub for sub in self.relations.owners if n in self.relations.owner(sub)]
        return Entity(
            name=noun.text.lower(),
            noun=noun,
            attributes=tuple(self._phrase(attribute) for attribute in said),
            sub_objects=tuple(self._sub_object(sub) for sub in sorted(owned)),
            count=phrase.count,
            doubt=self.question(n),
        )

    def names(self, numbers: Iterable[int]) -> str:
        return ", ".join(_text(self.words, self.phrases[n].noun, self.text) for n in sorted(numbers))

    def question(self, n: int) -> str:
        """The note that asks whose a phrase is, where that is a guess."""
        if n not in self.relations.doubtful:
            return ""
        name, noun = self.names([self.relations.doubtful[n]]), self.names([n])
        if self.relations.owner(n):
            return f'"{noun}": of the {name}? It was read so.'
        return f'"{noun}": of the {name}? It was read as an entity of its own.'

    def _sub_object(self, n: int) -> SubObject:
        """Its phrase is all from "wearing" on; what is said of it elsewhere ("her hat is red") belongs to it too."""
        whole = range(self.relations.owners[n].first, self.phrases[n].end)
        said = [i for attribute in self.relations.predicates.get(n, ()) for i in attribute]
        return SubObject(self._phrase((*whole, *said)), self._phrase(self.phrases[n].noun), self.question(n))

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
