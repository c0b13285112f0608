"""Losses on attention maps that guide the latent, as pure functions of the published codes.

Attend-and-Excite (Chefer et al. 2023, arXiv 2301.13826), SynGen (Rassin et al. 2023, arXiv 2306.08877), layout guidance
(Chen et al. 2023, arXiv 2304.03373), and the token and pixel losses of TokenCompose (Wang et al. 2023, arXiv
2312.03626), which CoMat (Jiang et al. 2024, arXiv 2404.03653) shares. Attention is that of all heads of a layer, or
their mean; N are the patches of the picture, W the words.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F

EXCITE_SHARPNESS = 100.0
"""Attend-and-Excite multiplies attention by this before its softmax over the words."""
SMOOTHING = math.exp(-1.0)
"""Weight of a neighbour in Attend-and-Excite's 3 x 3 filter. Its code means a Gaussian of 0.5 patches, and halves the
exponent once too little."""
FLOOR = 1e-12
"""Added to what a logarithm is taken of."""
PROBABILITY_MARGIN = 1e-6


def among_words(attention: torch.Tensor, sharpness: float = EXCITE_SHARPNESS) -> torch.Tensor:
    """The attention ``(B, N, W)`` after a softmax over the words."""
    return (attention * sharpness).softmax(-1)


def smoothed_peak(maps: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """``(B, S)``: the maximum of each map ``(B, S, N)`` after a 3 x 3 filter with reflected borders."""
    line = torch.tensor([SMOOTHING, 1.0, SMOOTHING]).to(maps)
    line = line / line.sum()
    padded = F.pad(maps.unflatten(-1, grid), (1, 1, 1, 1), mode="reflect" if min(grid) > 1 else "replicate")
    kernel = (line[:, None] * line)[None, None]
    return F.conv2d(padded.flatten(0, 1)[:, None], kernel).flatten(1).amax(1).unflatten(0, maps.shape[:2])


def neglect(attention: torch.Tensor, grid: tuple[int, int], subjects: Sequence[int]) -> torch.Tensor:
    """Attend-and-Excite, equation 1: ``(B, S)``, how far each subject's strongest patch is from full attention.

    Args:
        attention: probabilities ``(B, N, W)``.
        subjects: the places of the subjects among the words; every piece of a noun is one, as in the published code.
    """
    maps = among_words(attention)[..., list(subjects)].transpose(1, 2)
    return (1 - smoothed_peak(maps, grid)).clamp(min=0)


class Related(NamedTuple):
    """Places among the words: those of a noun, and of each of its modifiers."""

    noun: tuple[int, ...]
    modifiers: tuple[tuple[int, ...], ...]

    @property
    def places(self) -> set[int]:
        return {*self.noun, *(place for modifier in self.modifiers for place in modifier)}


def divergences(attention: torch.Tensor) -> torch.Tensor:
    """``(B, W, W)``: symmetric Kullback-Leibler divergences between the words' maps, each a distribution over the
    patches, from attention ``(B, N, W)``."""
    maps = attention.transpose(1, 2)
    maps = maps / maps.sum(-1, keepdim=True).clamp(min=FLOOR)
    logarithms = (maps + FLOOR).log()
    crossed = maps @ logarithms.transpose(1, 2)
    own = (maps * logarithms).sum(-1)
    return ((own[:, :, None] - crossed) + (own[:, None, :] - crossed.transpose(1, 2))) / 2


def misbinding(attention: torch.Tensor, related: Sequence[Related]) -> torch.Tensor:
    """SynGen, equations 2 to 4: ``(B, G)``, how far apart each noun and its modifiers are, less how far apart they are
    from the other words. ``attention (B, N, W)`` is that to the words, without start, end and padding.

    Of a word of several pieces the one that is furthest away counts, each time.
    """
    apart = divergences(attention)
    losses = []
    for each in related:
        others = [word for word in range(attention.shape[-1]) if word not in each.places]

        def from_others(places: Sequence[int], others: Sequence[int] = others) -> torch.Tensor:
            if not others:
                return apart.new_zeros(len(apart))
            return -apart[:, list(places)][..., list(others)].amax(1).mean(1)

        loss = apart.new_zeros(len(apart))
        for modifier in each.modifiers:
            together = apart[:, list(modifier)][..., list(each.noun)].amax((1, 2))
            loss = loss + together + (from_others(modifier) + from_others(each.noun)) / 2
        losses.append(loss)
    return torch.stack(losses, 1)


def share_within(maps: torch.Tensor, regions: torch.Tensor) -> torch.Tensor:
    """The part of each map ``(B, H, N, K)`` that lies in a region ``(B, N)``: ``(B, H, K)``."""
    inside = (maps * regions[:, None, :, None]).sum(2)
    return inside / maps.sum(2).clamp(min=FLOOR)


def outside(
    layers: Sequence[torch.Tensor], regions: Sequence[torch.Tensor], columns: Sequence[Sequence[int]]
) -> torch.Tensor:
    """Layout guidance, equation 2: ``(B, S)``, what part of each entity's attention is not in its region.

    Squared for each head, then the mean over heads, words of the entity, and layers.

    Args:
        layers: attention ``(B, H, N, W)`` of each layer.
        regions: for each layer ``(B, S, N)``.
        columns: the places of each entity among the words.
    """
    found = []
    for maps, of_entities in zip(layers, regions, strict=True):
        shares = [share_within(maps[..., list(own)], of_entities[:, place]) for place, own in enumerate(columns)]
        found.append(torch.stack([(1 - share).square().mean((1, 2)) for share in shares], 1))
    return torch.stack(found).mean(0)


def token_loss(maps: torch.Tensor, region: torch.Tensor) -> torch.Tensor:
    """TokenCompose, equation 4, as in its code: ``(B,)`` of one layer and noun.

    The shares within the region are averaged over heads before they are squared, then over the noun's tokens.

    Args:
        maps: attention ``(B, H, N, K)`` to the noun's tokens.
        region: ``(B, N)``, 0 or 1.
    """
    return (1 - share_within(maps, region).mean(1)).square().mean(-1)


def pixel_loss(maps: torch.Tensor, region: torch.Tensor) -> torch.Tensor:
    """TokenCompose, equation 5, as in its code: ``(B,)``, binary cross-entropy of a noun's attention and its region.

    Args:
        maps: attention ``(B, N, K)`` to the noun's tokens, the mean over heads and layers of a grid; their sum counts.
        region: ``(B, N)``, 0 or 1.
    """
    shares = maps.sum(-1).clamp(PROBABILITY_MARGIN, 1 - PROBABILITY_MARGIN)
    return F.binary_cross_entropy(shares, region.to(shares), reduction="none").mean(-1)
