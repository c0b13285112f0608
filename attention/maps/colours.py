"""Colour maps of growing lightness."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

STEPS = 256


class Arc(NamedTuple):
    """A path through the OKLCh space (Ottosson 2020): lightness grows evenly while the hue turns, in degrees."""

    hue_from: float
    hue_to: float
    chroma: float
    light_from: float = 0.12
    light_to: float = 0.97


ARCS = {
    "ember": Arc(hue_from=285, hue_to=465, chroma=0.19),
    "ocean": Arc(hue_from=285, hue_to=150, chroma=0.14),
    "grey": Arc(hue_from=0, hue_to=0, chroma=0.0, light_from=0.0, light_to=1.0),
}


def colour_table(name: str) -> torch.Tensor:
    """The colours of a map from low to high as sRGB in 0..1, ``(256, 3)``."""
    arc = ARCS[name]
    t = torch.linspace(0, 1, STEPS)
    light = arc.light_from + (arc.light_to - arc.light_from) * t
    hue = torch.deg2rad(arc.hue_from + (arc.hue_to - arc.hue_from) * t)
    chroma = arc.chroma * torch.sin(math.pi * (0.08 + 0.84 * t)).clamp(min=0) ** 0.8
    return _srgb(light, chroma * hue.cos(), chroma * hue.sin())


def coloured(values: torch.Tensor, name: str) -> torch.Tensor:
    """Values in 0..1 of any shape as colours, with a last dimension of 3."""
    return colour_table(name)[(values * (STEPS - 1)).round().long()]


def line_colours(count: int) -> list[tuple[int, int, int]]:
    """Colours in 0..255 that stand apart on a dark ground: hues evenly around the circle, by turns lighter and darker.

    The order of the hues is that of a walk by about 3 / 8 of the circle, so that neighbours differ most.
    """
    place = torch.arange(count)
    hue = torch.deg2rad(40 + 360 * (place * 0.381966 % 1))
    light = torch.where(place % 2 == 0, 0.82, 0.68)
    colours = _srgb(light, 0.13 * hue.cos(), 0.13 * hue.sin())
    return [tuple(colour) for colour in (colours * 255).round().int().tolist()]


def _srgb(light: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """OKLab to sRGB, cut to what a screen can show."""
    long = (light + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (light - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (light - 0.0894841775 * a - 1.2914855480 * b) ** 3
    linear = torch.stack(
        [
            4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
            -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
            -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
        ],
        dim=-1,
    ).clamp(0, 1)
    return torch.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear.clamp(min=1e-8) ** (1 / 2.4) - 0.055)
