"""How much memory a training step needs, as far as shapes tell."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..attention.engine.gradient import memory_of_a_row
from .network import Network

KEPT_SHARE = 0.3
"""Of what a backward pass needs, with blocks that are computed again."""
STATES = 4
"""Numbers of four bytes for each trained one: itself, its gradient and AdamW's two means."""


def memory_of_a_step(network: Network, shape: Sequence[int], rows: int, checkpointing: bool) -> float:
    """Bytes for passes with gradients of ``rows`` latents ``(C, h, w)``, and for the adapters."""
    of_rows = rows * memory_of_a_row(network.base, (1, *shape)) * (KEPT_SHARE if checkpointing else 1.0)
    trained = sum(math.prod(each.shape) for adapters in network.adapters for each in adapters.parameters())
    return of_rows + 4 * STATES * trained
