"""Self-attention temperature: attention modulation (arXiv 2404.13899), self-attention control.

``softmax(q kT / (tau sqrt(d))) v``: below 1 each patch keeps to the patches most like it. The paper names no values;
those here are the pack's own. The factor is put on the queries, which is the same for every attention kernel and also
where another pack has tiled or merged them.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..engine.calls import Call, Layer
from ..engine.run import Participant, Run
from ..engine.steps import check_range, step_range

LEVELS = {
    "all": frozenset(range(16)),
    "latent": frozenset([0]),
    "latent/2": frozenset([1]),
    "latent/4": frozenset([2]),
    "latent/8": frozenset([3]),
    "latent/2 and latent/4": frozenset([1, 2]),
}
"""Which layers take part, by how often the latent's grid was halved for them."""


def layers_at(name: str, layers: tuple[Layer, ...]) -> frozenset[Layer]:
    return frozenset(layer for layer in layers if layer.level in LEVELS[name])


@dataclass(frozen=True)
class TemperatureSettings:
    """``temperature`` is tau; ``layers`` one of ``LEVELS``; ``start`` and ``end`` are fractions of the run's steps;
    with ``negative`` the negative conditionings have it too."""

    temperature: float
    layers: str
    start: float
    end: float
    negative: bool

    name = "Self-Attention Temperature"

    def check(self, layers: tuple[Layer, ...]) -> None:
        """Raise ValueError if the temperature is not above 0, the range is empty, or there are no such layers."""
        if not self.temperature > 0:
            raise ValueError(f"temperature is {self.temperature:g}; it must be above 0. 1 changes nothing.")
        check_range(self.start, self.end)
        if not layers_at(self.layers, layers):
            there = ", ".join(name for name in LEVELS if layers_at(name, layers))
            raise ValueError(f'This model has no attention layers at "{self.layers}". It has some at: {there}.')

    def begin(self, run: Run) -> Participant:
        return Participant() if self.temperature == 1 else Temperature(self, run)


class Temperature(Participant):
    def __init__(self, settings: TemperatureSettings, run: Run):
        self.factor = 1 / settings.temperature
        self.negative = settings.negative
        self.self_layers = layers_at(settings.layers, run.layers)
        self.steps = step_range(settings.start, settings.end, run.steps)

    def wants(self, call: Call) -> bool:
        return call.step in self.steps and (self.negative or not all(call.negative))

    def scale_self(self, call: Call) -> tuple[float, ...]:
        return tuple(1.0 if negative and not self.negative else self.factor for negative in call.negative)
