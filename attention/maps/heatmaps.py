"""From recorded maps to heat maps and masks in the size of the picture: DAAM (arXiv 2210.04885), section 3."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from .recording import Recording

NORMALISATIONS = ("each map", "shared", "absolute")


def heat_maps(recording: Recording, latent: int, size: tuple[int, int]) -> torch.Tensor:
    """The maps of one latent in the picture's size (height, width), all layers in one, in attention probability.

    Every grid is brought to the latent's size (bicubic, not below 0), the mean is taken over all layers, and that is
    brought to ``size`` likewise.

    Returns:
        ``(steps, labels, height, width)``.
    """
    layers = sum(len(grid.layers) for grid in recording.grids)
    mean = sum(
        upsampled(grid.maps[:, latent], recording.latent_size) * (len(grid.layers) / layers) for grid in recording.grids
    )
    return upsampled(mean, size)


def upsampled(maps: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Maps ``(n, labels, h, w)`` in another size; bicubic weights can go below 0, probabilities cannot."""
    if tuple(maps.shape[-2:]) == tuple(size):
        return maps
    return F.interpolate(maps, size=tuple(size), mode="bicubic", align_corners=False).clamp(min=0)


def ranges(maps: torch.Tensor, normalisation: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The values at the two ends of the colour scale of each map, ``(steps, labels, 1, 1)``.

    "each map" takes every map's own extremes, "shared" those of all of them, "absolute" 0 and 1.
    """
    extremes = maps.amin((-2, -1), keepdim=True), maps.amax((-2, -1), keepdim=True)
    if normalisation == "each map":
        return extremes
    if normalisation == "shared":
        return extremes[0].amin().expand_as(extremes[0]), extremes[1].amax().expand_as(extremes[1])
    return torch.zeros_like(extremes[0]), torch.ones_like(extremes[1])


def normalised(maps: torch.Tensor, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    """Maps scaled from ``low``..``high`` to 0..1; a map without any contrast becomes 0."""
    return ((maps - low) / (high - low).clamp(min=torch.finfo(maps.dtype).tiny)).clamp(0, 1)


def masks_of(recording: Recording, size: tuple[int, int], threshold: float) -> torch.Tensor:
    """One mask for each latent and label, in that order.

    It is 1 where the map, scaled to 0..1 by its own extremes, is above the threshold; threshold 0 gives soft masks, the
    scaled maps themselves. Kept steps are averaged first.

    Returns:
        ``(latents * labels, height, width)`` in 0..1.
    """
    masks = []
    for latent in range(recording.latents):
        maps = heat_maps(recording, latent, size).mean(0, keepdim=True)
        maps = normalised(maps, *ranges(maps, "each map"))[0]
        masks.append(maps if threshold == 0 else (maps > threshold).float())
    return torch.cat(masks)
