"""The value on the BINDING wire: which words of a prompt belong together, and which rows of the conditioning they are.

Pure data, without torch and without ComfyUI. A binding is immutable; nodes further along the graph return grown copies.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from .lexicon import COVERED, HAVING, MADE, PARTICIPLES


class Span(NamedTuple):
    """Half-open range of characters of ``Binding.text``."""

    start: int
    end: int

    def overlaps(self, other: Span) -> bool:
        return self.start < other.end and other.start < self.end


@dataclass(frozen=True)
class Phrase:
    """One or more words; more than one span where other words stand between them ("red and white")."""

    text: str
    spans: tuple[Span, ...]


@dataclass(frozen=True)
class SubObject:
    """Something an entity wears, holds or has: the whole phrase ("wearing red sunglasses") and its noun. ``doubt`` is
    the parser's question where it is not certain whose it is."""

    phrase: Phrase
    noun: Phrase
    doubt: str = field(default="", compare=False)


@dataclass(frozen=True)
class Entity:
    """A noun with what belongs to it. ``name`` is unique within a binding: the second dog is "dog 2". ``doubt`` is the
    parser's question where this might be a sub-object of another."""

    name: str
    noun: Phrase
    attributes: tuple[Phrase, ...] = ()
    sub_objects: tuple[SubObject, ...] = ()
    count: int = 1
    mask: Any = None
    box: tuple[float, float, float, float] | None = None
    subject: Any = None
    doubt: str = field(default="", compare=False)

    @property
    def phrases(self) -> tuple[Phrase, ...]:
        """Noun, attributes and sub-objects: the phrases of the entity's group."""
        return (self.noun, *self.attributes, *(sub.phrase for sub in self.sub_objects))

    @property
    def anchor_phrase(self) -> str:
        """The entity alone, as a prompt: "a black cat wearing sunglasses"."""
        after = [attribute.text for attribute in self.attributes if attribute.text.split()[0].lower() in AFTER_NOUN]
        before = [attribute.text for attribute in self.attributes if attribute.text not in after]
        words = " ".join((*before, self.noun.text))
        having = " and ".join(_joined(sub.phrase.text, not n) for n, sub in enumerate(self.sub_objects))
        return " ".join(filter(None, (_article(words, self.count), words, *after, having)))


AFTER_NOUN = MADE | COVERED | {"of", "in", "wearing"}


def _joined(phrase: str, first: bool) -> str:
    """A sub-object's phrase as it follows a noun: "has a hat" and "a hat" become "with a hat"."""
    verb, _, rest = phrase.partition(" ")
    if verb.lower() in PARTICIPLES:
        return f"{PARTICIPLES[verb.lower()]} {rest}"
    return f"with {phrase}" if first and verb.lower() not in HAVING else phrase


def _article(words: str, count: int) -> str:
    """What stands before a noun phrase: a, an, the count, or nothing before a plural."""
    if count > 1:
        return str(count)
    if words.lower().endswith("s") and not words.lower().endswith("ss"):
        return ""
    return "an" if words[:1].lower() in "aeiou" else "a"


def with_unique_names(entities: Iterable[Entity]) -> tuple[Entity, ...]:
    """The entities with the second of a name called "dog 2", the third "dog 3"."""
    seen: Counter[str] = Counter()
    named = []
    for entity in entities:
        seen[entity.name] += 1
        number = seen[entity.name]
        named.append(entity if number == 1 else replace(entity, name=f"{entity.name} {number}"))
    return tuple(named)


class Row(NamedTuple):
    """One row of an encoder's conditioning sequence. ``kind`` is start, text, embedding, end or padding, or "other" for
    rows of another prompt.

    ``piece`` is the decoded word piece; ``span`` its characters in ``Binding.text`` (None for start, end, padding).
    """

    kind: str
    piece: str = ""
    span: Span | None = None
    weight: float = 1.0


@dataclass(frozen=True)
class EncoderTokens:
    """The rows of one text encoder's part of the conditioning; ``encoder`` is "l", "g" or "h", ``width`` the number of
    columns it has there, if known."""

    encoder: str
    rows: tuple[Row, ...]
    width: int | None = None

    @property
    def length(self) -> int:
        return len(self.rows)

    @property
    def chunks(self) -> int:
        return len(self.of_kind("start"))

    def of_kind(self, *kinds: str) -> tuple[int, ...]:
        return tuple(i for i, row in enumerate(self.rows) if row.kind in kinds)

    @property
    def alone(self) -> EncoderTokens:
        """Without the rows of other prompts that stand before its own."""
        others = self.of_kind("other")
        return replace(self, rows=self.rows[others[-1] + 1 :]) if others else self

    def positions(self, spans: Iterable[Span]) -> tuple[int, ...]:
        """Row indices of every word piece that overlaps one of the spans."""
        spans = tuple(spans)
        return tuple(
            i for i, row in enumerate(self.rows) if row.span is not None and any(row.span.overlaps(s) for s in spans)
        )


@dataclass(frozen=True)
class Binding:
    """A prompt understood: its entities, and where each of their words stands in each text encoder's sequence.

    ``key`` names the conditioning made with this binding: it is in that conditioning's dict under ``CONDITIONING_KEY``.
    ``prompt`` is what the user typed, ``text`` the same without weights and escapes, which all spans refer to.
    ``encoded`` are the rows of that conditioning, by which it is known where the dict is lost.
    """

    key: str
    prompt: str
    text: str
    entities: tuple[Entity, ...]
    encoders: tuple[EncoderTokens, ...]
    parser: str
    notes: tuple[str, ...] = ()
    encoded: Any = field(default=None, compare=False, repr=False)

    @property
    def length(self) -> int:
        """Rows of the conditioning sequence: the shortest encoder's, as ComfyUI cuts the others to it."""
        return min(tokens.length for tokens in self.encoders)

    def positions(self, phrases: Iterable[Phrase]) -> tuple[int, ...]:
        """Rows of the phrases in the conditioning sequence, over all encoders."""
        spans = [span for phrase in phrases for span in phrase.spans]
        found = {i for tokens in self.encoders for i in tokens.positions(spans)}
        return tuple(sorted(i for i in found if i < self.length))

    def group(self, entity: Entity) -> tuple[int, ...]:
        """Rows of the entity's noun, attributes and sub-objects."""
        return self.positions(entity.phrases)

    def entity(self, name: str) -> Entity:
        """The entity of that name or 1-based number.

        Raises:
            ValueError: there is none; the message lists the entities.
        """
        wanted = name.strip().lower()
        for number, entity in enumerate(self.entities, 1):
            if wanted in (entity.name.lower(), str(number)):
                return entity
        listed = ", ".join(f"{number} = {entity.name}" for number, entity in enumerate(self.entities, 1)) or "none"
        raise ValueError(f'The binding has no entity "{name}". Its entities are: {listed}.')

    def behind(self, count: int) -> Binding:
        """The binding of a conditioning in which ``count`` rows of other prompts (whole chunks) come before its own."""

        def moved(tokens: EncoderTokens) -> EncoderTokens:
            chunk = tokens.length // tokens.chunks
            others = (Row("other" if row % chunk else "start") for row in range(count))
            return replace(tokens, rows=(*others, *tokens.rows))

        return replace(self, encoders=tuple(map(moved, self.encoders)))

    def with_entity(self, name: str, **changes: Any) -> Binding:
        """A copy in which the named entity has the given fields."""
        old = self.entity(name)
        return replace(self, entities=tuple(replace(e, **changes) if e is old else e for e in self.entities))


CONDITIONING_KEY = "semantic_binding"
MERGED_KEY = "semantic_binding_merged"
REPLACED_KEY = "semantic_binding_replaced"
ENDS_KEY = "semantic_binding_ends"
"""In a conditioning's dict: the key of its binding; the names of the entities that token merge has made one token each,
where it has been merged; of those that have a sum of phrases in their place; and whether its end and padding rows are
replaced while sampling."""
