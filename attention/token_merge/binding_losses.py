"""The losses of ToMe (Hu et al. 2024, arXiv 2411.07132), section 3.3, and their schedules, as pure functions.

What the paper leaves open is as in the published code. Other than there, thresholds can be kept for each entity, and
follow the size of the attention grid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

SHARPNESS = 0.5
"""Attention is divided by this before the softmax over the words."""
PUBLISHED_CELLS = 32 * 32
"""Cells of the attention grid for which the published thresholds were found."""
POSE_TARGETS = ((10.0, 16.0), (25.0, 16.0))
POSE_SIZE, POSE_WEIGHT = 32.0, 0.2
"""Where the pose loss wants the centres (x, y) of the first and second entity, on a picture of this size."""
LOG_FLOOR = 1e-5


def binding_loss(predicted: torch.Tensor, target: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """``(B,)``: mean squared difference of what the network says for a composite alone and for its anchor phrase.

    Both are ``(B, C, H, W)`` denoised latents; ``scale (B, 1, 1, 1)`` is what the network's output was multiplied by.
    """
    return ((predicted - target) / scale).square().mean((1, 2, 3))


def composite_maps(attention: torch.Tensor, columns: Sequence[Sequence[int]]) -> torch.Tensor:
    """``(B, G, N)``: attention to each composite, after a softmax over the words of the prompt.

    Args:
        attention: probabilities ``(B, N, W)`` that each patch gives to the words.
        columns: for each composite its place among the words, or its places, of which the mean counts.
    """
    among_words = (attention / SHARPNESS).softmax(-1)
    return torch.stack([among_words[..., list(places)].mean(-1) for places in columns], dim=1)


def spread(maps: torch.Tensor) -> torch.Tensor:
    """The maps ``(..., N)`` with their minimum at 0 and their maximum at 1; 0 where they are constant."""
    low, high = maps.amin(-1, keepdim=True), maps.amax(-1, keepdim=True)
    return (maps - low) / _divisor(high - low)


def _divisor(values: torch.Tensor) -> torch.Tensor:
    """1 for 0, so that values and gradients stay finite."""
    return values.masked_fill(values == 0, 1)


def doubled_entropy(shares: torch.Tensor) -> torch.Tensor:
    """``-2 sum p ln p`` of ``(..., N)``: twice the entropy in nats."""
    return -2 * (shares * (shares + LOG_FLOOR).log()).sum(-1)


def entropy_loss(maps: torch.Tensor) -> torch.Tensor:
    """``(B, G)``: how far each composite's map ``(B, G, N)`` is spread over the picture."""
    positive = spread(maps)
    return doubled_entropy(positive / _divisor(positive.sum(-1, keepdim=True)))


def pose_loss(maps: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """``(B,)``: how far the centres of two maps ``(B, 2, N)`` are from the left and the right place.

    The targets are those of the published code, on a picture of 32 x 32 whatever the grid.
    """
    weights = spread(maps).unflatten(-1, grid)
    mass = _divisor(weights.sum((-2, -1)))
    down, across = (torch.linspace(0, POSE_SIZE, cells).to(maps) for cells in grid)
    x = (weights.sum(-2) * across).sum(-1) / mass
    y = (weights.sum(-1) * down).sum(-1) / mass
    targets = torch.tensor(POSE_TARGETS).to(maps)
    return POSE_WEIGHT * (torch.stack([x, y], -1) - targets).square().mean(-1).sum(-1)


def strength(step: int, steps: int) -> float:
    """How much of the full step sizes of the entropy loss a step has: falls in a straight line to 0 in the last."""
    return 1 - step / max(1, steps - 1)


def threshold_of_entity(threshold: float, cells: int) -> float:
    """The entropy loss at which an entity is left alone: the published code's for two entities, halved.

    Entropy grows with the logarithm of the cells, so that other grids than the published 32 x 32 have it moved.
    """
    return threshold / 2 - 1 - 2 * math.log(PUBLISHED_CELLS / cells)


def threshold_of_sum(threshold: float, entities: int, cells: int) -> float:
    """The published code's: the sum over all entities at which a step's iterations stop."""
    return threshold / 2 * entities - 2 - entities * 2 * math.log(PUBLISHED_CELLS / cells)
