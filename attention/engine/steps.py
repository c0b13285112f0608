"""Steps of a sampling run, found from the noise level: samplers pass no step number."""

from __future__ import annotations

import math
from collections.abc import Sequence

TOLERANCE = 1e-4


def step_of(sigma: float, sigmas: Sequence[float]) -> int:
    """The step that a model call at noise level ``sigma`` belongs to.

    ``sigmas`` is the falling schedule of the run, one longer than its steps. Step i covers ``sigmas[i] >= sigma >
    sigmas[i + 1]``, up to rounding; levels above the schedule belong to the first step, levels below to the last.
    Samplers of higher order call the model several times in a step.
    """
    passed = sum(level >= sigma * (1 - TOLERANCE) for level in sigmas[1:])
    return min(passed, len(sigmas) - 2)


def check_range(start: float, end: float) -> None:
    """Raise ValueError unless the range is one."""
    if not start < end:
        raise ValueError(f"start ({start:g}) must be below end ({end:g}).")


def step_range(start: float, end: float, steps: int) -> range:
    """The steps between two fractions of a run, every step that is touched; never empty for ``start < end``."""
    return range(math.floor(round(start * steps, 6)), math.ceil(round(end * steps, 6)))
