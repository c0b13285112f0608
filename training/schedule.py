"""Learning rates over a training."""

from __future__ import annotations

import math

SCHEDULES = CONSTANT, COSINE, LINEAR = "constant", "cosine", "linear"


def rate_factor(schedule: str, step: int, steps: int, warm_up: int) -> float:
    """What the learning rate is multiplied by in a step, counted from 0 of ``steps``: it rises in the first
    ``warm_up``, and then stays or falls to 0."""
    if step < warm_up:
        return (step + 1) / (warm_up + 1)
    done = (step - warm_up) / max(1, steps - warm_up)
    return {CONSTANT: 1.0, COSINE: (1 + math.cos(math.pi * done)) / 2, LINEAR: 1 - done}[schedule]
