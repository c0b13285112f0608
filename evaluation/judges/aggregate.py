"""From the answers to an image's questions to its score."""

from __future__ import annotations

import math
from collections.abc import Sequence

ARITHMETIC, GEOMETRIC, PRODUCT = "arithmetic mean", "geometric mean", "product"
AGGREGATES = (ARITHMETIC, GEOMETRIC, PRODUCT)
"""Soft TIFA takes the arithmetic mean for single atoms and the geometric one for whole prompts, T2I-CompBench the
product."""


def aggregate(values: Sequence[float], how: str) -> float:
    """One number of values in 0..1, of which there is at least one."""
    if how == ARITHMETIC:
        return math.fsum(values) / len(values)
    product = math.prod(values)
    if how == PRODUCT:
        return product
    return math.exp(math.fsum(map(math.log, values)) / len(values)) if min(values) > 0 else 0.0
