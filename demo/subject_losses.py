"""FastComposer's localisation loss (arXiv 2305.10431, section 4.2), and the attention it is taken of."""

from __future__ import annotations

import torch
import torch.nn.functional as F


class WatchedAttention:
    """Attention by plain matrix products, for `optimized_attention_override`, that keeps what cross-attention gives to
    chosen rows: ``seen`` has ``(B, heads, N, S)`` for each layer, the probabilities of S rows of each batch item."""

    def __init__(self, rows: torch.Tensor, context_rows: int):
        self.rows, self.context_rows = rows, context_rows
        self.seen: list[torch.Tensor] = []

    def __call__(self, func, q, k, v, heads, mask=None, **kwargs):
        batch, queries, channels = q.shape
        width = channels // heads
        q, k, v = (x.view(batch, -1, heads, width).transpose(1, 2) for x in (q, k, v))
        weights = torch.softmax(q @ k.transpose(-1, -2) * width**-0.5, dim=-1)
        if k.shape[2] == self.context_rows:
            place = self.rows[:, None, None, :].expand(-1, heads, queries, -1)
            self.seen.append(weights.float().gather(3, place))
        return (weights.to(v.dtype) @ v).transpose(1, 2).reshape(batch, queries, channels)


def balanced(attention: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean attention off the subject minus that on it: ``(..., N)`` and a mask of 0..1 that broadcasts to it.

    Each mean is a sum divided by the mask's sum and 1e-5, as in the published code.
    """
    off = (attention * (1 - mask)).sum(-1) / ((1 - mask).sum(-1) + 1e-5)
    return off - (attention * mask).sum(-1) / (mask.sum(-1) + 1e-5)


def localisation_loss(seen: list[torch.Tensor], masks: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """The mean over layers, batch, heads and valid subjects: ``seen`` as in WatchedAttention, masks ``(B, S, h, w)``,
    ``valid (B, S)``. Masks are resized with antialiasing, as in the published code. Layers with fewer than 8 x 8
    patches are left out, as the coarsest tell no places apart."""
    found = []
    for attention in seen:
        side = round(attention.shape[2] ** 0.5)
        if side < 8:
            continue
        small = F.interpolate(masks, (side, side), mode="bilinear", antialias=True).flatten(2)
        of_heads = balanced(attention.permute(0, 1, 3, 2), small[:, None]).mean(1)
        found.append((of_heads * valid).sum() / valid.sum().clamp(min=1))
    return torch.stack(found).mean()
