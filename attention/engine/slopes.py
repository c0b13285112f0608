"""The gradients of losses."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def slopes(loss: torch.Tensor, leaves: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """The gradients of a loss with respect to what it was computed from.

    Raises:
        ValueError: another node has cut the way to it.
    """
    if not loss.requires_grad:
        raise ValueError(
            "Another node computes a part of this model without gradients, which this node needs. Take nodes that put "
            "functions of their own in the place of the model's (Token Perturbation Guidance does) off it."
        )
    return torch.autograd.grad(loss, leaves)
