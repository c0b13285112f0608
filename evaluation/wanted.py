"""What a prompt asks for, in the words of the demo model's world of shapes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..parsing.binding import Binding, Entity, Phrase
from ..world.names import COLOURS, MARKS, SHAPES

_FILLING_WORDS = frozenset(("a", "an", "the", "and", "with", "that", "which", "is", "are", "has", "have", "having"))
_MARK_FILLING_WORDS = _FILLING_WORDS | {"white"}
"""Words that ask for nothing; every mark is white."""


@dataclass(frozen=True)
class Wanted:
    """One thing a prompt asks for. ``unknown`` are its words outside the shapes world; with any it is not judged."""

    name: str
    shape: str | None
    colour: str | None = None
    mark: str | None = None
    unknown: tuple[str, ...] = ()


def _words(phrases: Iterable[Phrase], filling: frozenset[str]) -> list[str]:
    """The words of phrases that ask for something, shapes and marks in the singular."""
    words = [word for phrase in phrases for word in phrase.text.lower().replace(",", " ").split()]
    return [singular(word) for word in words if word not in filling]


def singular(word: str) -> str:
    """A shape or mark in the singular; any other word as it is."""
    forms = (word, word.removesuffix("s"), word.removesuffix("es"))
    return next((form for form in forms if form in (*SHAPES, *MARKS)), word)


def _wanted_by_entity(entity: Entity) -> list[Wanted]:
    own = _words((entity.noun, *entity.attributes), _FILLING_WORDS)
    worn = _words((sub.phrase for sub in entity.sub_objects), _MARK_FILLING_WORDS)
    shapes = [word for word in own if word in SHAPES]
    colours = [word for word in own if word in COLOURS]
    marks = [word for word in worn if word in MARKS]
    unknown = [word for word in own if word not in (*SHAPES, *COLOURS)] + [word for word in worn if word not in MARKS]
    unknown += [*shapes[1:], *colours[1:], *marks[1:]]
    if not shapes and not unknown:
        unknown = own
    names = [entity.name] if entity.count == 1 else [f"{entity.name} ({i + 1})" for i in range(entity.count)]
    shape, colour, mark = (words[0] if words else None for words in (shapes, colours, marks))
    return [Wanted(name, shape, colour, mark, tuple(unknown)) for name in names]


def wanted_by(binding: Binding) -> tuple[Wanted, ...]:
    """The things a binding's entities ask for; "two circles" are two of them.

    Raises:
        ValueError: no entity is of the shapes world, so that nothing could be judged.
    """
    wanted = tuple(thing for entity in binding.entities for thing in _wanted_by_entity(entity))
    if all(thing.unknown for thing in wanted):
        entities = ", ".join(entity.name for entity in binding.entities) or "none"
        raise ValueError(
            f"Nothing in this prompt can be judged. Its entities: {entities}. Known are the demo model's shapes "
            f"({', '.join(SHAPES)}), colours ({', '.join(COLOURS)}) and marks ({', '.join(MARKS)})."
        )
    return wanted
