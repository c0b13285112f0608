"""Where a layer's grid lies in the latent, and sums of maps that may cover only a part of it."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F

from .rows import Area


class Box(NamedTuple):
    """Part of a grid, in its cells."""

    top: int
    left: int
    height: int
    width: int


def grid_of(height: int, width: int, level: int) -> tuple[int, int]:
    """(height, width) of a latent's grid after ``level`` halvings, each of which rounds up."""
    return -(-height // 2**level), -(-width // 2**level)


def box_of(area: Area | None, grid: tuple[int, int], level: int) -> Box:
    """The cells of a level's grid that an area of the latent covers, to the nearest cell; all of them without an
    area."""
    if area is None:
        return Box(0, 0, *grid)
    top, left = min(round(area.y / 2**level), grid[0] - 1), min(round(area.x / 2**level), grid[1] - 1)
    height, width = grid_of(area.height, area.width, level)
    return Box(top, left, min(height, grid[0] - top), min(width, grid[1] - left))


def on_grid(maps: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """Maps ``(B, C, h, w)`` on a layer's usual grid, bilinear: other nodes (deep shrink) have layers work on another
    one in some steps."""
    if maps.shape[-2:] == grid:
        return maps
    return F.interpolate(maps, size=grid, mode="bilinear", align_corners=False)


def patches_on_grid(values: torch.Tensor, of: tuple[int, int], grid: tuple[int, int]) -> torch.Tensor:
    """Values ``(..., N, C)`` of the patches of one grid on another, as ``on_grid``."""
    if of == grid:
        return values
    maps = values.reshape(-1, *values.shape[-2:]).transpose(1, 2).unflatten(2, of)
    found = on_grid(maps, grid).flatten(2).transpose(1, 2)
    return found.reshape(*values.shape[:-2], *found.shape[-2:])


def affinity_on_grid(affinity: torch.Tensor, of: tuple[int, int], grid: tuple[int, int]) -> torch.Tensor:
    """``(B, N, N)``: what patches attend to, from one grid on another; still shares that add up to 1."""
    if of == grid:
        return affinity
    queries = patches_on_grid(affinity, of, grid)
    found = patches_on_grid(queries.transpose(1, 2), of, grid).transpose(1, 2)
    return found / found.sum(-1, keepdim=True)


class Sum:
    """Running mean of maps ``(..., h, w)`` on a grid, each of which may cover only a box of it.

    Never in place: with several GPUs it is used from threads outside inference mode.
    """

    def __init__(self, grid: tuple[int, int]):
        self.grid = grid
        self.total: torch.Tensor | None = None
        self.weight: torch.Tensor | None = None

    def add(self, maps: torch.Tensor, box: Box) -> None:
        """Add maps of the box, resized to its cells where another node had the layer work on a different grid."""
        maps = on_grid(maps, box[2:])
        border = (box.left, self.grid[1] - box.left - box.width, box.top, self.grid[0] - box.top - box.height)
        maps, covered = F.pad(maps, border), F.pad(maps.new_ones(box[2:]), border)
        if self.total is None:
            self.total, self.weight = maps, covered
        else:
            self.total = self.total + maps.to(self.total.device)
            self.weight = self.weight + covered.to(self.weight.device)

    def mean(self) -> torch.Tensor:
        """The mean where anything was added, 0 elsewhere."""
        return self.total / self.weight.clamp(min=1)
