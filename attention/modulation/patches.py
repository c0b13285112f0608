"""Which entity each patch of the image belongs to."""

from __future__ import annotations

import torch
import torch.nn.functional as F

BACKGROUND = -1


def smoothed(scores: torch.Tensor) -> torch.Tensor:
    """Scores ``(B, G, h, w)`` averaged over each patch and its neighbours, 3 x 3."""
    return F.avg_pool2d(scores, 3, stride=1, padding=1, count_include_pad=False)


def entity_of_patches(scores: torch.Tensor, min_share: float) -> torch.Tensor:
    """The entity with the highest score in each patch, the first of equals: ``(B, G, h, w)`` to ``(B, h*w)``.

    A patch in which the highest score's share of all scores is below ``min_share`` is BACKGROUND.
    """
    best, entity = scores.flatten(2).max(1)
    share = best / scores.flatten(2).sum(1).clamp(min=torch.finfo(scores.dtype).tiny)
    return entity.masked_fill(share < min_share, BACKGROUND)


def entity_of_covered(coverage: torch.Tensor, min_share: float) -> torch.Tensor:
    """The same for regions: ``coverage (B, G, h, w)`` is the part of each patch that an entity's region covers.

    Where regions overlap the one that covers more of the patch has it. A patch of which less than ``min_share`` is
    covered, or nothing, is BACKGROUND.
    """
    best, entity = coverage.flatten(2).max(1)
    return entity.masked_fill((best < min_share) | (best == 0), BACKGROUND)
