"""Resolutions of attention layers, by the names that nodes give them."""

from __future__ import annotations

from .calls import Layer

LEVELS = {"latent": 0, "latent/2": 1, "latent/4": 2, "latent/8": 3}
RESOLUTIONS = ("auto", *LEVELS, "all")
AUTO_COARSEST = 2
AUTO_CELLS = 16


def chosen_levels(resolution: str, layers: tuple[Layer, ...], height: int, width: int) -> frozenset[int]:
    """The levels to record. "auto" is the coarsest of latent, latent/2, latent/4 with at least 16 cells each way."""
    present = sorted({layer.level for layer in layers})
    if resolution == "all":
        return frozenset(present)
    if resolution == "auto":
        fine = [level for level in present if level <= AUTO_COARSEST and min(height, width) >> level >= AUTO_CELLS]
        return frozenset([max(fine, default=present[0])])
    return frozenset([LEVELS[resolution]])
