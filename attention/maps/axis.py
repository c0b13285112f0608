"""The value axis of a plot: its range, its scale, and where numbers stand on it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

DECADE = 10
MARGIN = 0.06
"""Of the range, left free at both ends."""
TICKS = 4
"""About how many numbers stand on it."""


@dataclass(frozen=True)
class Axis:
    """From ``low`` to ``high``, which are decimal logarithms on a logarithmic axis."""

    low: float
    high: float
    logarithmic: bool

    @classmethod
    def of(cls, values: Iterable[float]) -> Axis:
        """One on which all values that are finite have their place; logarithmic where they span more than a decade."""
        finite = [value for value in values if math.isfinite(value)] or [0.0]
        low, high = min(finite), max(finite)
        logarithmic = low > 0 and high / low > DECADE
        if logarithmic:
            low, high = math.log10(low), math.log10(high)
        margin = MARGIN * (high - low) or abs(low) * MARGIN or 1.0
        return cls(low - margin, high + margin, logarithmic)

    def place(self, value: float) -> float:
        """0 at the low end, 1 at the high end."""
        return ((math.log10(value) if self.logarithmic else value) - self.low) / (self.high - self.low)

    def ticks(self) -> list[tuple[float, str]]:
        """Round values on the axis, rising, and how they are written."""
        if self.logarithmic:
            return [(value, f"{value:g}") for value in self._round_on_decades()]
        rough = (self.high - self.low) / TICKS
        power = math.floor(math.log10(rough))
        step = min((1, 2, 5, 10), key=lambda digit: abs(digit * 10**power - rough)) * 10**power
        decimals = max(0, -math.floor(math.log10(step)))
        numbers = range(math.ceil(self.low / step), math.floor(self.high / step) + 1)
        style = f".{decimals}f" if decimals <= 4 and step < 1e5 else ".3g"
        return [(number * step, f"{number * step:{style}}") for number in numbers]

    def _round_on_decades(self) -> list[float]:
        powers = range(math.floor(self.low), math.ceil(self.high))
        digits = (1, 2, 5) if len(powers) < TICKS else (1,)
        stride = math.ceil(len(powers) / (2 * TICKS))
        values = [float(f"{digit}e{power}") for power in powers[::stride] for digit in digits]
        return [value for value in values if self.low <= math.log10(value) <= self.high]
