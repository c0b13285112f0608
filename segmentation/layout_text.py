"""Where entities are to be before there is a picture: boxes given, written as text, or equal parts of the picture."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..parsing.binding import Binding, Entity
from .boxes import Assigned, Box, Labelled, have_labels, of_entities
from .entity_masks import sought

SPLITS = SIDE_BY_SIDE, ONE_ABOVE_THE_OTHER = "side by side", "one above the other"
EXAMPLE = "cat: 0.1 0.2 0.4 0.9"


def read_layout(text: str, binding: Binding) -> dict[str, list[Box]]:
    """The boxes of entities, by name, from lines such as "cat: 0.1 0.2 0.4 0.9".

    Before the colon stands an entity's name or number, after it left, top, right and bottom as fractions of the
    picture, with commas or without. An entity has as many boxes as lines.

    Raises:
        ValueError: a line is something else; the message has its number.
    """
    boxes: dict[str, list[Box]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                name, box = _read_line(line, binding)
            except ValueError as error:
                raise ValueError(f'Line {number} of the layout, "{line.strip()}": {error}') from error
            boxes.setdefault(name, []).append(box)
    return boxes


def _read_line(line: str, binding: Binding) -> tuple[str, Box]:
    name, colon, numbers = line.rpartition(":")
    if not colon:
        raise ValueError(f"There is no colon after the entity. Write it like this: {EXAMPLE}")
    entity = binding.entity(name.strip())
    found = re.split(r"[\s,]+", numbers.strip().strip(","))
    if len(found) != 4 or not all(re.fullmatch(r"\d*\.?\d+|\d+\.", each) for each in found):
        raise ValueError(f"After the colon stand four numbers from 0 to 1: left top right bottom, as in {EXAMPLE}")
    left, top, right, bottom = map(float, found)
    if max(right, bottom) > 1:
        raise ValueError("Numbers are fractions of the picture's width and height, so none is larger than 1.")
    if left >= right or top >= bottom:
        raise ValueError("The order is left top right bottom: left is smaller than right, top smaller than bottom.")
    return entity.name, (left, top, right, bottom)


def write_layout(boxes: dict[str, list[Box]]) -> list[str]:
    """The boxes as lines that ``read_layout`` reads."""
    return [
        f"{name}: {' '.join(f'{round(edge, 4):g}' for edge in box)}" for name, found in boxes.items() for box in found
    ]


def split(entities: Sequence[Entity], how: str) -> dict[str, list[Box]]:
    """Equal parts of the picture for the entities in the order of the prompt; ``how`` is one of ``SPLITS``."""
    count = len(entities)
    parts = [(place / count, (place + 1) / count) for place in range(count)]
    if how == SIDE_BY_SIDE:
        return {entity.name: [(start, 0.0, end, 1.0)] for entity, (start, end) in zip(entities, parts, strict=True)}
    return {entity.name: [(0.0, start, 1.0, end)] for entity, (start, end) in zip(entities, parts, strict=True)}


def arranged(
    binding: Binding, given: Sequence[Sequence[Labelled]] | None, text: str, how: str, skip_background: bool
) -> Assigned:
    """The boxes of the entities: those ``given`` for each picture, then those that the ``text`` has for the others, or
    with neither the picture split.

    Backgrounds and abstract nouns have a box if a label or the text names them; with ``skip_background`` they take no
    part in what goes by the order of entities.

    Raises:
        ValueError: no entity has a box; what the parts of this raise.
    """
    if given is None and not text.strip():
        return Assigned([split(sought(binding, skip_background).entities, how)])
    assigned = Assigned([{}])
    if given is not None:
        by_label = have_labels(given)
        entities = binding.entities if by_label else sought(binding, skip_background).entities
        assigned = of_entities(given, binding, entities, len(given))
    owners = {name for frame in assigned.frames for name in frame}
    written = {name: boxes for name, boxes in read_layout(text, binding).items() if name not in owners}
    frames = [{**frame, **written} for frame in assigned.frames]
    if not any(frames):
        raise ValueError("No entity has a box: bboxes is empty, and layout names none.")
    return Assigned(frames, assigned.ignored)
