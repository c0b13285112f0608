"""The token and pixel losses of TokenCompose (Wang et al. 2023, arXiv 2312.03626, equations 4 and 5) on the attention
that a pass has shown. CoMat (Jiang et al. 2024, arXiv 2404.03653) trains with the same."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch

from ..attention.engine.calls import Layer
from ..attention.guidance.losses import pixel_loss, share_within, token_loss
from .masks import resized

if TYPE_CHECKING:
    from .network import Seen

TOKEN_WEIGHT = 1e-3
PIXEL_WEIGHT = 5e-5
"""What the two losses count beside the noise loss, as published."""
MIDDLE_LAYERS, DECODER_LAYERS = 1, 3
"""How many layers Stable Diffusion 1 has in its middle, and in each grid of its decoder."""


@dataclass(frozen=True, eq=False)
class Nouns:
    """The nouns of one sample: for each the rows of its word pieces in the context, and its mask in ``(G, H, W)``,
    above 0 in the noun. A mask may be empty: its noun is then not to be attended to anywhere."""

    rows: tuple[tuple[int, ...], ...]
    masks: torch.Tensor


class Grounding(NamedTuple):
    """Of each sample ``(B,)``: both losses, summed over grids and without weights, and which share of the nouns'
    attention lies within their masks. A sample without nouns has losses of 0, and no share (nan)."""

    token: torch.Tensor
    pixel: torch.Tensor
    share: torch.Tensor


def published_layers(layers: Iterable[Layer]) -> frozenset[Layer]:
    """Those that the losses are taken on: the middle and all of the decoder."""
    return frozenset(layer for layer in layers if layer.block != "input")


def watched_rows(nouns: Sequence[Nouns]) -> torch.Tensor:
    """``(B, K)``: the rows of each sample's nouns, one noun after the other, and row 0 where it has fewer than K."""
    rows = [[row for noun in each.rows for row in noun] for each in nouns]
    longest = max(1, *map(len, rows))
    return torch.tensor([each + [0] * (longest - len(each)) for each in rows])


def columns_of(nouns: Nouns) -> list[slice]:
    """Where each noun of a sample stands in its line of ``watched_rows``."""
    found, start = [], 0
    for rows in nouns.rows:
        found.append(slice(start, start + len(rows)))
        start += len(rows)
    return found


def losses_of(seen: Sequence[Seen], nouns: Sequence[Nouns]) -> Grounding:
    """The losses of the samples of a pass that has watched the ``watched_rows`` of their nouns.

    As in the published code, layers of the same part and grid make a group; the token loss of a group is the sum over
    its layers, the pixel loss is that of their mean. Groups of more or fewer layers than Stable Diffusion 1 has count
    as if they had as many, so that the published weights hold for SDXL (nothing is published for it).

    Args:
        seen: of every layer the probabilities ``(B, heads, N, K)``, in float32.

    Raises:
        ValueError: no layer was seen.
    """
    if not seen:
        raise ValueError("No layer has shown its attention: the model has no cross-attention in its middle or decoder.")
    groups: dict[tuple[bool, int], list[Seen]] = {}
    for each in seen:
        groups.setdefault((each.layer.block == "middle", each.layer.level), []).append(each)
    found = []
    for place, own in enumerate(nouns):
        if not own.rows:
            zero = seen[0].maps.new_zeros(())
            found.append((zero, zero, zero + torch.nan))
            continue
        of_groups = [_of_group(group, place, own) for group in groups.values()]
        token, pixel = (sum(each[part] for each in of_groups) for part in (0, 1))
        shares = torch.cat([each[2] for each in of_groups])
        found.append((token, pixel, shares.mean()))
    return Grounding(*(torch.stack(each) for each in zip(*found, strict=True)))


def _of_group(group: Sequence[Seen], place: int, nouns: Nouns) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Both losses of the sample at a place in one group, and the share within the masks in each of its layers."""
    maps = [each.maps[place : place + 1] for each in group]
    mean = torch.stack([each.mean(1) for each in maps]).mean(0)
    regions = resized(nouns.masks.to(mean.device), group[0].grid).flatten(1).to(mean)
    layers = MIDDLE_LAYERS if group[0].layer.block == "middle" else DECODER_LAYERS
    token, pixel, shares = [], [], []
    for own, region in zip(columns_of(nouns), regions[:, None], strict=True):
        token.append(torch.stack([token_loss(each[..., own], region) for each in maps]).mean() * layers)
        # Probabilities are kept 1e-6 away from 0 and 1, where BCELoss caps logarithms at -100: slopes stay below 1e6.
        pixel.append(pixel_loss(mean[..., own], region).mean())
        shares.append(torch.stack([share_within(each[..., own].detach(), region).mean() for each in maps]))
    return torch.stack(token).mean(), torch.stack(pixel).mean(), torch.stack(shares).mean(0)
