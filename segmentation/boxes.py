"""Boxes as other nodes give them, and which entity each of them belongs to."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from ..attention.engine.regions import region
from ..parsing.binding import Binding, Entity

Box = tuple[float, float, float, float]
"""Left, top, right, bottom as fractions of the picture."""

Frames = list[dict[str, list[Box]]]
"""For each picture the boxes of each entity, by the entity's name."""


@dataclass(frozen=True)
class Labelled:
    """A box that a node found or a user drew; ``label`` is empty where it has none."""

    box: Box
    label: str = ""
    score: float | None = None


class Assigned(NamedTuple):
    """The boxes of the entities, and the labels of the boxes that belong to none of them."""

    frames: Frames
    ignored: tuple[str, ...] = ()


def frames_of(value: Any, size: tuple[int, int]) -> list[list[Labelled]]:
    """The boxes of each picture from a value of core's BOUNDING_BOX: one box, a list, or a list for each picture.

    Core's boxes are dicts with ``x, y, width, height`` in pixels of a picture of ``size (height, width)``. Detectors
    add a ``label``; core's boxes with ``metadata`` have a description there. The elements of core's canvas (ARRAY) have
    a ``desc``, and a ``bbox`` in thousandths of the picture. What juts out of the picture is cut off.

    Raises:
        ValueError: it is something else, or a box has no part of the picture.
    """
    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, list):
        raise ValueError(f"Boxes are dicts with x, y, width and height, or lists of them; got {_kind(value)}.")
    frames = value if value and all(isinstance(frame, list) for frame in value) else [value]
    return [
        [_read(box, f"Box {number} of picture {picture}", size) for number, box in enumerate(frame, 1)]
        for picture, frame in enumerate(frames, 1)
    ]


def _read(box: Any, which: str, size: tuple[int, int]) -> Labelled:
    if not isinstance(box, dict):
        raise ValueError(f"{which} is no dict with x, y, width and height, but {_kind(box)}.")
    if "bbox" in box and "x" not in box:
        box = _of_element(box, which, size)
    try:
        x, y, width, height = (float(box[key]) for key in ("x", "y", "width", "height"))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{which} needs numbers for x, y, width and height; it is {box}.") from error
    edges = (x / size[1], y / size[0], (x + width) / size[1], (y + height) / size[0])
    left, top, right, bottom = (min(max(edge, 0.0), 1.0) for edge in edges)
    if not all(map(math.isfinite, edges)) or left >= right or top >= bottom:
        raise ValueError(
            f"{which} (x {x:g}, y {y:g}, {width:g} x {height:g}) has no part of the picture of {size[1]} x {size[0]} "
            "pixels. Give the size of the picture that the boxes are pixels of."
        )
    metadata = box.get("metadata")
    described = metadata.get("desc") if isinstance(metadata, dict) else None
    score = box.get("score")
    label = str(box.get("label") or described or "").strip()
    return Labelled((left, top, right, bottom), label, None if score is None else float(score))


def _of_element(element: dict, which: str, size: tuple[int, int]) -> dict:
    """An element of core's canvas as a box in pixels, labelled with its description."""
    try:
        top, left, bottom, right = (float(edge) / 1000 for edge in element["bbox"])
    except (TypeError, ValueError) as error:
        raise ValueError(f"{which} needs top, left, bottom and right in its bbox; it is {element}.") from error
    height, width = size
    edges = {"x": left * width, "y": top * height, "width": (right - left) * width, "height": (bottom - top) * height}
    return {**edges, "label": element.get("desc")}


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"


def have_labels(frames: Iterable[Iterable[Labelled]]) -> bool:
    return any(found.label for frame in frames for found in frame)


def of_entities(
    frames: Sequence[Sequence[Labelled]], binding: Binding, entities: Sequence[Entity], batch: int
) -> Assigned:
    """Which of the ``entities`` each box belongs to, in each of ``batch`` pictures.

    Without labels box n of a picture is that of entity n. If any box has a label, labels decide: the name of an entity,
    its number in the binding, its noun, or the noun's last word; case and the noun's plural do not count. Where several
    entities have the noun, and no label names one of the others, the boxes are ``dealt``. Boxes with other labels are
    left out: detectors find all sorts of things.

    Raises:
        ValueError: the number of pictures is neither one nor ``batch``; there are more boxes without labels than
            entities; no label is that of an entity.
    """
    if len(frames) not in (1, batch):
        raise ValueError(f"There are boxes for {len(frames)} pictures, but {batch} pictures.")
    numbers = {entity.name: str(number) for number, entity in enumerate(binding.entities, 1)}
    listed = ", ".join(f"{numbers[entity.name]} = {entity.name}" for entity in entities) or "none"
    if have_labels(frames):
        owners = _owners(frames, entities, numbers)
        if not any(owners.values()):
            found = ", ".join(filter(None, owners))
            raise ValueError(f"No box is labelled as an entity. The labels are: {found}. The entities are: {listed}.")
        assigned = [_by_label(frame, owners) for frame in frames]
        ignored = tuple(label or "no label" for label in owners if not owners[label])
    else:
        assigned = [_by_order(frame, entities, listed) for frame in frames]
        ignored = ()
    return Assigned(assigned * (batch // len(assigned)), ignored)


def _by_order(frame: Sequence[Labelled], entities: Sequence[Entity], listed: str) -> dict[str, list[Box]]:
    if len(frame) > len(entities):
        raise ValueError(
            f"There are {len(frame)} boxes without labels in a picture, and {len(entities)} entities: {listed}. Give "
            "no more boxes than there are entities, or label them with the entities' names."
        )
    return {entity.name: [found.box] for entity, found in zip(entities, frame, strict=False)}


def _by_label(frame: Sequence[Labelled], owners: dict[str, list[Entity]]) -> dict[str, list[Box]]:
    assigned: dict[str, list[Box]] = {}
    for label, entities in owners.items():
        for name, boxes in dealt([found for found in frame if found.label == label], entities).items():
            assigned.setdefault(name, []).extend(found.box for found in boxes)
    return assigned


def _owners(
    frames: Sequence[Sequence[Labelled]], entities: Sequence[Entity], numbers: dict[str, str]
) -> dict[str, list[Entity]]:
    """For each label the entities that its boxes are shared by: most often one, or none."""
    labels = list(dict.fromkeys(found.label for frame in frames for found in frame))
    words = {label.lower() for label in labels}
    owners = {}
    for label in labels:
        word = label.lower()
        named = [each for each in entities if word in (each.name.lower(), numbers[each.name])]
        alike = [each for each in entities if each.noun.text.lower() == word]
        others = {name.lower() for each in alike for name in (each.name, numbers[each.name])} - {word}
        forms = {word, f"{word}s", f"{word}es"}
        owners[label] = (
            (named if named and (len(alike) < 2 or others & words) else alike)
            or [each for each in entities if each.noun.text.lower() in forms]
            or [each for each in entities if each.noun.text.lower().split()[-1] in forms]
        )
    return owners


def dealt(found: Sequence[Labelled], entities: Sequence[Entity]) -> dict[str, list[Labelled]]:
    """The boxes of entities that are the same thing, by the entities' names.

    One entity has all of them. Several get as many as each is of ("two dogs"), no two the same: those with the highest
    scores, from left to right, in the order of the prompt.
    """
    if len(entities) < 2:
        return {entity.name: list(found) for entity in entities if found}
    best = sorted(found, key=lambda each: -(each.score or 0.0))[: sum(entity.count for entity in entities)]
    waiting = iter(sorted(best, key=lambda each: each.box[0] + each.box[2]))
    shares = {entity.name: list(itertools.islice(waiting, entity.count)) for entity in entities}
    return {name: boxes for name, boxes in shares.items() if boxes}


def rectangles(boxes: Iterable[Box], size: tuple[int, int]) -> torch.Tensor:
    """``(h, w)``: the part of each cell of a grid that lies in a box, of several boxes in that which has most of it."""
    covered = torch.zeros(size)
    for box in boxes:
        covered = torch.maximum(covered, region(None, box, size)[0])
    return covered


def masks_of(frames: Frames, entities: Sequence[Entity], size: tuple[int, int]) -> torch.Tensor:
    """The boxes of the entities as masks ``(B, E, h, w)``; black for an entity without one."""
    return torch.stack([torch.stack([rectangles(each.get(e.name, ()), size) for e in entities]) for each in frames])


def with_boxes(binding: Binding, entities: Iterable[Entity], frames: Frames, size: tuple[int, int]) -> Binding:
    """The binding whose ``entities`` have their boxes as regions: one box in one picture as a box, anything else as
    masks ``(B, h, w)``, which are black where there is no box."""
    for entity in entities:
        boxes = [frame.get(entity.name, []) for frame in frames]
        if len(boxes) == 1 and len(boxes[0]) == 1:
            binding = binding.with_entity(entity.name, box=boxes[0][0], mask=None)
        else:
            masks = torch.stack([rectangles(each, size) for each in boxes])
            binding = binding.with_entity(entity.name, mask=masks)
    return binding


def to_core(frames: Iterable[Iterable[Labelled]], size: tuple[int, int]) -> list[list[dict]]:
    """The boxes as a value of core's BOUNDING_BOX, a list for each picture of ``size (height, width)``."""
    return [[_written(found, size) for found in frame] for frame in frames]


def _written(found: Labelled, size: tuple[int, int]) -> dict:
    left, top, right, bottom = found.box
    height, width = size
    written = {
        "x": left * width,
        "y": top * height,
        "width": (right - left) * width,
        "height": (bottom - top) * height,
        "label": found.label,
    }
    return written if found.score is None else {**written, "score": found.score}
