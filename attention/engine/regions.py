"""Regions of entities, their masks and boxes, in the patches of a layer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from ...parsing.binding import Entity
from .rows import Area


def region(mask: torch.Tensor | None, box: tuple[float, float, float, float] | None, size: tuple[int, int]):
    """An entity's region on the latent's grid ``(B, h, w)`` in 0..1, from its mask ``(B, H, W)`` or its box (left, top,
    right, bottom in 0..1)."""
    if mask is not None:
        return F.interpolate(mask[:, None].float(), size=size, mode="area")[:, 0]
    left, top, right, bottom = box

    def inside(start: float, end: float, count: int) -> torch.Tensor:
        edges = torch.arange(count + 1.0)
        return (edges[1:].clamp(max=end * count) - edges[:-1].clamp(min=start * count)).clamp(0, 1)

    return (inside(top, bottom, size[0])[:, None] * inside(left, right, size[1]))[None]


def regions_of(entities: Sequence[Entity], size: tuple[int, int], batch: int) -> torch.Tensor:
    """The entities' regions ``(B, G, h, w)`` on the latent's grid.

    Raises:
        ValueError: an entity has another number of masks than there are latents.
    """
    found = []
    for entity in entities:
        of_entity = region(entity.mask, entity.box, size)
        if len(of_entity) not in (1, batch):
            raise ValueError(
                f"{entity.name} has {len(of_entity)} masks and there are {batch} latents in the batch. "
                "Give it one mask for all of them, or one for each."
            )
        found.append(of_entity.expand(batch, -1, -1))
    return torch.stack(found, 1)


def cells_of_box(box: tuple[float, float, float, float], grid: tuple[int, int]) -> torch.Tensor:
    """``(h, w)``: 1 in the cells of a box, whose edges are rounded down as in the code of layout guidance; at least
    one cell."""
    left, top, right, bottom = box
    height, width = grid
    found = torch.zeros(grid)
    rows, columns = (
        slice(min(int(start * count), count - 1), max(int(end * count), int(start * count) + 1))
        for start, end, count in ((top, bottom, height), (left, right, width))
    )
    found[rows, columns] = 1
    return found


def resized_cells(
    entities: Sequence[Entity], size: tuple[int, int], cell: int, area: Area | None, grid: tuple[int, int]
) -> torch.Tensor:
    """Which patches of a layer are in the entities' regions as TokenCompose's code has it: ``(B, G, h, w)``, those that
    a mask's bilinear resizing with antialiasing leaves anything in, also next to it.

    Args:
        size: the latent's, in cells of ``cell`` pixels; boxes are drawn in pixels.
    """
    found = []
    for entity in entities:
        mask = entity.mask
        if mask is None:
            mask = (region(None, entity.box, (size[0] * cell, size[1] * cell)) >= 0.5).float()
        if area is not None:
            down, across = mask.shape[-2] / size[0], mask.shape[-1] / size[1]
            top, bottom = round(area.y * down), round((area.y + area.height) * down)
            left, right = round(area.x * across), round((area.x + area.width) * across)
            mask = mask[..., top:bottom, left:right]
        found.append(F.interpolate(mask[:, None].float(), size=grid, mode="bilinear", antialias=True)[:, 0] > 0)
    batch = max(map(len, found))
    return torch.stack([each.expand(batch, -1, -1) for each in found], 1)


def coverage_in(regions: torch.Tensor, area: Area | None, grid: tuple[int, int]) -> torch.Tensor:
    """Regions ``(B, G, h, w)`` of the latent in the patches of a layer that works on an area of it."""
    if area is not None:
        regions = regions[..., area.y : area.y + area.height, area.x : area.x + area.width]
    return F.adaptive_avg_pool2d(regions, grid)
