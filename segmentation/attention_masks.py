"""Masks of entities from recorded attention.

Cross-attention says where an entity is, coarsely. Self-attention says which patches belong together: multiplied by a
power of it, each patch gets the attention of the patches that it looks at itself, and masks get outlines (Dataset
Diffusion, Nguyen et al., NeurIPS 2023, arXiv 2309.14303). Own choices: maps of several grids are averaged
after this step, layers by number; what a patch belongs to can also be found by Otsu's threshold or by the highest map.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ..attention.maps.heatmaps import normalised, ranges, upsampled
from ..attention.maps.recording import Grid, Recording
from ..parsing.binding import Entity

METHODS = THRESHOLD, OTSU, HIGHEST = "threshold", "otsu", "highest"
BINS = 256
SPECK = 0.2


@dataclass(frozen=True)
class Cutting:
    """How maps become masks: by one of ``METHODS``, the ``threshold`` on maps scaled to 0..1 where the method has one;
    ``clean`` to drop specks and fill holes."""

    method: str
    threshold: float
    clean: bool


def entity_maps(recording: Recording, entities: tuple[Entity, ...], size: tuple[int, int], power: int) -> torch.Tensor:
    """The map of each entity in the picture's size ``(latents, E, H, W)``, each scaled to 0..1 by its own extremes.

    An entity's map is that of its noun, or of all its words where the recording has only that; kept steps are averaged.
    ``power`` is how often each grid's maps are multiplied by its affinity, 0 for not at all.

    Raises:
        ValueError: the recording has no map of an entity, or no affinity and ``power`` is above 0.
    """
    missing = [entity.name for entity in entities if entity.name not in recording.labels]
    if missing:
        raise ValueError(
            f"The recording has no map of: {', '.join(missing)}. Its maps are: {', '.join(recording.labels)}. Set "
            "record in Record Attention to entities, and connect the same BINDING there and here."
        )
    if power and any(grid.affinity is None for grid in recording.grids):
        raise ValueError(
            "The recording has no affinity to sharpen masks with. Switch affinity on in Record Attention and sample "
            "again, or set sharpen to 0 here."
        )
    places = [recording.labels.index(entity.name) for entity in entities]
    layers = sum(len(grid.layers) for grid in recording.grids)
    mean = sum(
        upsampled(spread(grid, places, power), recording.latent_size) * (len(grid.layers) / layers)
        for grid in recording.grids
    )
    maps = upsampled(mean, size)
    return normalised(maps, *ranges(maps, "each map"))


def spread(grid: Grid, places: list[int], power: int) -> torch.Tensor:
    """Some maps of a grid, mean over the kept steps, multiplied by its affinity ``power`` times: ``(latents, E, h,
    w)``."""
    maps = grid.maps[:, :, places].mean(0)
    flat = maps.flatten(2).transpose(1, 2)
    for _ in range(power):
        flat = grid.affinity @ flat
    return flat.transpose(1, 2).unflatten(2, maps.shape[-2:])


def masks_of(maps: torch.Tensor, cutting: Cutting) -> torch.Tensor:
    """Masks ``(latents, E, H, W)`` of 0 and 1 from maps in 0..1.

    threshold: where a map is above it. otsu: above the threshold that parts the map's values best. highest: a pixel is
    of the entity with the highest map there, and of none where that is not above the threshold.
    """
    if cutting.method == OTSU:
        masks = torch.stack([torch.stack([one > otsu(one) for one in of_latent]) for of_latent in maps])
    else:
        masks = maps > cutting.threshold
    if cutting.method == HIGHEST:
        best = maps.argmax(1, keepdim=True)
        masks = masks & (torch.arange(maps.shape[1])[:, None, None] == best)
    if cutting.clean:
        masks = torch.from_numpy(np.stack([np.stack([cleaned(one) for one in each]) for each in masks.numpy()]))
    return masks.float()


def otsu(values: torch.Tensor) -> float:
    """The threshold on values in 0..1 at which the variance between the two classes is largest (Otsu 1979)."""
    counts = torch.histc(values.float(), BINS, 0, 1).double()
    middles = (torch.arange(BINS).double() + 0.5) / BINS
    below, sums = counts.cumsum(0), (counts * middles).cumsum(0)
    above = below[-1] - below
    difference = sums / below.clamp(min=1) - (sums[-1] - sums) / above.clamp(min=1)
    return float((below * above * difference**2).argmax() + 1) / BINS


def cleaned(mask: np.ndarray) -> np.ndarray:
    """A mask ``(H, W)`` without its holes and without the parts smaller than a fifth of its largest."""
    from scipy import ndimage

    parts, count = ndimage.label(mask)
    if not count:
        return mask
    sizes = ndimage.sum_labels(mask, parts, range(1, count + 1))
    kept = 1 + np.flatnonzero(sizes >= SPECK * sizes.max())
    return ndimage.binary_fill_holes(np.isin(parts, kept))
