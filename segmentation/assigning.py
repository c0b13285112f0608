"""Masks from elsewhere given to entities: their sizes, and what becomes of the masks that others have."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from ..parsing.binding import Binding, Entity
from .entity_masks import check_pictures

NEW_MASK = KEEP, IN_FRONT, BEHIND = "keep both", "new in front", "new behind"


def named(binding: Binding, names: str) -> tuple[Entity, ...]:
    """The entities of names or numbers separated by commas; all of them, in their order, where there are none.

    Raises:
        ValueError: one is no entity, or is named twice.
    """
    entities = tuple(binding.entity(name) for name in names.split(",") if name.strip()) or binding.entities
    twice = [each.name for place, each in enumerate(entities) if each in entities[:place]]
    if twice:
        raise ValueError(f"{', '.join(twice)} is named twice. Name each entity once, in the order of the masks.")
    if not entities:
        raise ValueError(f'The binding has no entities to give masks to; its prompt is: "{binding.text}".')
    return entities


def by_entity(masks: torch.Tensor, entities: Sequence[Entity]) -> torch.Tensor:
    """A batch of masks ``(N, H, W)`` as ``(B, E, H, W)``: all entities of the first picture, then of the second.

    Raises:
        ValueError: they do not come out even.
    """
    if masks.shape[0] % len(entities):
        listed = ", ".join(entity.name for entity in entities)
        raise ValueError(
            f"There are {masks.shape[0]} masks for {len(entities)} entities ({listed}). Give one mask for each entity, "
            "in their order (for several pictures: all of the first picture, then all of the second), or name in "
            "entities those that the masks are of."
        )
    return masks.float().unflatten(0, (-1, len(entities)))


def size_of(binding: Binding, but: Sequence[Entity]) -> tuple[int, int] | None:
    """(height, width) of the masks that the other entities have; None if they have none."""
    sizes = [tuple(each.mask.shape[-2:]) for each in binding.entities if each.mask is not None and each not in but]
    return sizes[0] if sizes else None


def resized(masks: torch.Tensor, size: tuple[int, int] | None) -> torch.Tensor:
    """Masks ``(..., H, W)`` in another size, stretched; as they are if it is None or theirs."""
    if size is None or tuple(masks.shape[-2:]) == size:
        return masks
    flat = masks.float().reshape(-1, 1, *masks.shape[-2:])
    flat = F.interpolate(flat, size=size, mode="bilinear", align_corners=False, antialias=True)
    return flat.reshape(*masks.shape[:-2], *size)


def with_mask(binding: Binding, entity: Entity, mask: torch.Tensor, overlap: str) -> Binding:
    """The binding whose entity has the mask ``(B, H, W)``, of the size of the other masks.

    ``overlap`` is one of ``NEW_MASK``: where the mask of another entity is too, both have it, the new one has it, or
    the old one has.

    Raises:
        ValueError: another entity has another number of masks, neither of the two being one.
    """
    others = [each for each in binding.entities if each.mask is not None and each.name != entity.name]
    if overlap != KEEP:
        for other in others:
            check_pictures((entity.name, len(mask)), (other.name, len(other.mask)))
    if overlap == BEHIND:
        for other in others:
            mask = torch.minimum(mask, 1 - other.mask)
    if overlap == IN_FRONT:
        for other in others:
            binding = binding.with_entity(other.name, mask=torch.minimum(other.mask, 1 - mask))
    return binding.with_entity(entity.name, mask=mask.detach().float().cpu())
