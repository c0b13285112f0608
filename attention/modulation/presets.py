"""Attention modulation (arXiv 2404.13899) as a whole: temperature, object focus and stage weights in tried settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ...parsing.binding import Binding
from .object_focus import CLOSED, FocusSettings
from .stage_weights import Shape, StagePlan, WeightSettings
from .temperature import TemperatureSettings


class Preset(NamedTuple):
    """The settings of each part, without what they act on."""

    temperature: dict
    focus: dict
    weights: dict


FOCUS = {
    "same_layer": False,
    "score": "sum",
    "min_share": 0.0,
    "close_background": False,
    "penalty": CLOSED,
    "start": 0.1,
    "end": 1.0,
}
WEIGHTS = {"words": Shape("linear", 1.2, 0.8), "entities": Shape("linear", 0.8, 1.2), "end_as_words": False}
PRESETS = {
    "paper": Preset(
        temperature={"temperature": 0.8, "layers": "all", "start": 0.0, "end": 0.2, "negative": True},
        focus={**FOCUS, "close_end": False},
        weights=WEIGHTS,
    ),
    "demo model": Preset(
        temperature={"temperature": 0.8, "layers": "all", "start": 0.0, "end": 0.5, "negative": True},
        focus={**FOCUS, "close_end": True},
        weights=WEIGHTS,
    ),
}
"""paper: as the paper describes it, with values of our own where it gives none; demo model: found for the bundled model
on prompts other than those it is reported on (benchmarks/results/claims.md)."""


def techniques(
    preset: Preset,
    binding: Binding,
    report: Callable[[StagePlan], None],
    *,
    temperature: bool,
    focus: bool,
    weights: bool,
) -> tuple[TemperatureSettings | FocusSettings | WeightSettings, ...]:
    """The settings of the parts that are on."""
    parts = (
        (temperature, lambda: TemperatureSettings(**preset.temperature)),
        (focus, lambda: FocusSettings(binding, **preset.focus)),
        (weights, lambda: WeightSettings(binding, **preset.weights, report=report)),
    )
    return tuple(make() for on, make in parts if on)
