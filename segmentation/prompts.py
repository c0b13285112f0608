"""What Segment Anything is told about where a thing is: boxes, points written as text, and regions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from ..parsing.binding import Binding, Entity
from .boxes import Box, Frames

NOT = "not"
POINTS_EXAMPLE = "cat: 0.3 0.5, 0.4 0.6, not 0.9 0.1"


class Point(NamedTuple):
    """A place in the picture, as fractions of its width and height from the top left; ``on`` the thing, or not."""

    x: float
    y: float
    on: bool = True


@dataclass(frozen=True)
class Prompt:
    """What points at one thing: a box, points, or both."""

    box: Box | None = None
    points: tuple[Point, ...] = ()


def read_points(text: str, binding: Binding) -> dict[str, list[Point]]:
    """The points of each entity, by its name, from text like ``POINTS_EXAMPLE``: one entity per line.

    Raises:
        ValueError: a line is something else, or names no entity of the binding; the message has the line's number.
    """
    found: dict[str, list[Point]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        name, colon, points = line.partition(":")
        try:
            if not colon:
                raise ValueError("there is no colon after the entity's name.")
            of_entity = found.setdefault(binding.entity(name).name, [])
            of_entity.extend(_read_point(words) for words in points.split(","))
        except ValueError as error:
            raise ValueError(f'Line {number} of points, "{line.strip()}": {error}') from error
    return found


def _read_point(text: str) -> Point:
    words = text.split()
    on = words[:1] != [NOT]
    try:
        x, y = map(float, words if on else words[1:])
    except ValueError:
        raise ValueError(
            f'"{text.strip()}" is no point. A point is two fractions, of the width and of the height, and commas stand '
            f"between points, as in: {POINTS_EXAMPLE}"
        ) from None
    if not (0 <= x <= 1 and 0 <= y <= 1):
        raise ValueError(
            f"{x:g} {y:g} is not in the picture. Points are fractions of width and height: 0.5 0.5 is the middle."
        )
    return Point(x, y, on)


def all_prompts(
    entities: Sequence[Entity], boxes: Frames, points: Mapping[str, Sequence[Point]]
) -> list[list[list[Prompt]]]:
    """The prompts of each picture and entity, from the boxes of each picture and the points, the same for all pictures.

    An entity that has neither a box in any picture nor a point on it is found by its region.

    Raises:
        ValueError: no entity has anything that says where it is, or one has only points that are not on it.
    """
    prompts = [_prompts_of_entity(entity, boxes, points.get(entity.name, ())) for entity in entities]
    if not any(map(any, prompts)):
        names = ", ".join(entity.name for entity in entities)
        raise ValueError(
            f"Nothing says where the entities are ({names}). Connect bboxes, write points, or connect a BINDING whose "
            "entities have regions."
        )
    return [list(of_picture) for of_picture in zip(*prompts, strict=True)]


def _prompts_of_entity(entity: Entity, boxes: Frames, points: Sequence[Point]) -> list[list[Prompt]]:
    given = [frame.get(entity.name, []) for frame in boxes]
    if not any(given) and not any(point.on for point in points):
        given = [[box] if box else [] for box in boxes_of_region(entity, len(boxes))]
        if points and not any(given):
            raise ValueError(
                f"The points of {entity.name} only say where it is not. Give a point on it too, or a box around it."
            )
    return [prompts_of(of_picture, points) for of_picture in given]


def prompts_of(boxes: Sequence[Box], points: Sequence[Point]) -> list[Prompt]:
    """One prompt for each box, with the points in it, and one of the points that are in no box.

    Points that are not on the entity go with all of them.
    """
    on = [point for point in points if point.on]
    off = [point for point in points if not point.on]
    prompts = [Prompt(box, (*(point for point in on if _inside(point, box)), *off)) for box in boxes]
    elsewhere = [point for point in on if not any(_inside(point, box) for box in boxes)]
    return [*prompts, Prompt(None, (*elsewhere, *off))] if elsewhere else prompts


def _inside(point: Point, box: Box) -> bool:
    left, top, right, bottom = box
    return left <= point.x <= right and top <= point.y <= bottom


def boxes_of_region(entity: Entity, batch: int) -> list[Box | None]:
    """For each picture the box around what the entity's mask has above 0.5, or its box; None where it has neither.

    Raises:
        ValueError: the entity has another number of masks than there are pictures.
    """
    if entity.mask is None:
        return [entity.box] * batch
    if len(entity.mask) not in (1, batch):
        raise ValueError(
            f"{entity.name} has masks for {len(entity.mask)} pictures, and there are {batch}. Give it one mask for all "
            "of them, or one for each."
        )
    boxes = [_box_around(mask > 0.5) for mask in entity.mask]
    return boxes * (batch // len(boxes))


def _box_around(covered: torch.Tensor) -> Box | None:
    """The box around what is True in ``(H, W)``."""
    height, width = covered.shape
    rows, columns = covered.any(1).nonzero().flatten().tolist(), covered.any(0).nonzero().flatten().tolist()
    if not rows:
        return None
    return columns[0] / width, rows[0] / height, (columns[-1] + 1) / width, (rows[-1] + 1) / height
