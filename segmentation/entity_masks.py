"""The masks of a binding's entities: whose are looked for, what becomes of those not found, and of overlaps."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import torch

from ..parsing.binding import Binding, Entity
from ..parsing.excluded import has_no_place

NOT_FOUND = EMPTY, STOP = "empty mask", "stop"
OVERLAPS = SMALLER, FIRST, KEPT = "smaller in front", "first in front", "keep"


class Sought(NamedTuple):
    """The entities that are looked for, and those that are not: abstract nouns and backgrounds."""

    entities: tuple[Entity, ...]
    skipped: tuple[Entity, ...]


def sought(binding: Binding, skip_background: bool, pointed_at: Collection[str] = ()) -> Sought:
    """Which entities to look for in a picture. Those ``pointed_at``, by name, are never skipped.

    Raises:
        ValueError: there is none.
    """
    skipped = tuple(
        each
        for each in binding.entities
        if skip_background and has_no_place(each.noun.text) and each.name not in pointed_at
    )
    entities = tuple(each for each in binding.entities if each not in skipped)
    if not entities:
        why = (
            f"{', '.join(each.name for each in skipped)}: abstract nouns and backgrounds are skipped. Switch "
            "skip_background off to look for them."
            if skipped
            else f'The prompt is: "{binding.text}". Name entities in the node the BINDING comes from.'
        )
        raise ValueError(f"There is no entity to make a mask of. {why}")
    return Sought(entities, skipped)


def missing(entities: Sequence[Entity], masks: torch.Tensor) -> list[str]:
    """The names of entities whose masks, of ``(B, E, H, W)``, are empty in a picture."""
    empty = ~masks.flatten(2).any(-1)
    return [
        entity.name if len(masks) == 1 else f"{entity.name} (picture {picture})"
        for picture, of_picture in enumerate(empty.tolist(), 1)
        for entity, is_empty in zip(entities, of_picture, strict=True)
        if is_empty
    ]


def check_found(names: Sequence[str], not_found: str) -> None:
    """Raise ValueError if ``not_found`` (of ``NOT_FOUND``) is to stop and these entities are missing."""
    if names and not_found == STOP:
        raise ValueError(
            f"Not found in the picture: {', '.join(names)}. Make another picture, lower the thresholds, or set "
            f"not_found to {EMPTY} to go on without."
        )


def without_overlaps(masks: torch.Tensor, rule: str) -> torch.Tensor:
    """Masks ``(B, E, H, W)`` in 0..1 of which each pixel is in one at most.

    ``rule`` is one of ``OVERLAPS``. Smaller in front: the mask of the smaller area has the pixel, since what lies in
    front covers less ("a cat on a sofa"); of equal ones the first. First in front: in the order of the entities. Keep:
    masks stay as they are. Where the one in front covers a pixel in part, the others share the rest.
    """
    if rule == KEPT:
        return masks
    if rule == SMALLER:
        order = masks.sum((-2, -1)).argsort(dim=1, stable=True)
    else:
        order = torch.arange(masks.shape[1], device=masks.device).expand(len(masks), -1)
    place = order[..., None, None].expand_as(masks)
    stacked = masks.gather(1, place)
    before = stacked.cumsum(1) - stacked
    visible = torch.minimum(stacked, (1 - before).clamp(min=0))
    return torch.zeros_like(masks).scatter(1, place, visible)


def check_pictures(first: tuple[str, int], second: tuple[str, int]) -> None:
    """Raise ValueError if two entities (name, number of masks) have masks for different numbers of pictures."""
    if first[1] != second[1] and 1 not in (first[1], second[1]):
        raise ValueError(
            f"{first[0]} has masks for {first[1]} pictures, and {second[0]} for {second[1]}. Give each of them one "
            "mask for all pictures, or one for each."
        )


def with_masks(binding: Binding, entities: Sequence[Entity], masks: torch.Tensor) -> Binding:
    """The binding whose entities have the masks ``(B, E, H, W)``."""
    masks = masks.detach().float().cpu()
    for place, entity in enumerate(entities):
        binding = binding.with_entity(entity.name, mask=masks[:, place])
    return binding


def flat(masks: torch.Tensor) -> torch.Tensor:
    """Masks ``(B, E, H, W)`` as core's MASK ``(B * E, H, W)``: picture by picture, and entity by entity within."""
    return masks.flatten(0, 1).float().cpu()


def coverage(masks: torch.Tensor) -> list[list[float]]:
    """The part of each picture that each entity's mask covers, entity by entity, of ``(B, E, H, W)``."""
    return masks.float().mean((-2, -1)).T.tolist()
