"""Attention probabilities of chosen tokens, without keeping those of all the others."""

from __future__ import annotations

import torch

WORKING_ELEMENTS = 2**22
"""Largest number of probabilities held at a time: 16 MiB."""


def mean_probabilities(
    q: torch.Tensor,
    k: torch.Tensor,
    heads: int,
    groups: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    per_head: bool = False,
) -> torch.Tensor:
    """Probability that each query gives each key, or each group of keys: ``softmax(q kT / sqrt(d) + bias) @ groups``,
    mean over heads unless they are asked for.

    Computed in float32 whatever the dtype of ``q``; in slices over heads and queries, so that the working memory does
    not grow with the image.

    Args:
        q: queries ``(rows, N, heads * d)``.
        k: keys ``(rows, T, heads * d)``.
        groups: ``(T, G)``, the weight of each key in each group.
        bias: ``(rows, 1, N, T)``, the same for every head.

    Returns:
        ``(rows, N, G)`` in float32, or ``(rows, heads, N, G)``; T in place of G without groups.
    """
    rows, count, width = q.shape
    q = q.reshape(rows, count, heads, width // heads).transpose(1, 2)
    k = k.reshape(rows, -1, heads, width // heads).transpose(1, 2)
    scale = (width // heads) ** -0.5
    part = max(1, WORKING_ELEMENTS // (rows * heads * k.shape[2]))
    transposed = k.float().transpose(2, 3)
    parts = []
    for start, piece in zip(range(0, count, part), q.split(part, dim=2), strict=True):
        logits = torch.matmul(piece.float() * scale, transposed)
        if bias is not None:
            logits = logits + bias[:, :, start : start + part]
        found = logits.softmax(-1)
        found = found if per_head else found.mean(1)
        parts.append(found if groups is None else found @ groups)
    return torch.cat(parts, dim=-2)
