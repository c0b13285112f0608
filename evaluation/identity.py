"""Whether a subject of the demo world is in a picture: its fill, in the shape that carries it, and not another's.

Things are told by their distance from the ground, so that any colour counts, and named by their outline. A fill is
compared where the thing is: at each of its pixels with the colour that the subject has there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ..world.subjects import Subject, filled
from .detect import FIT, fit_shapes, placed

FROM_GROUND = 0.12
"""How far a pixel's colour is from the ground's at least, in RGB."""

MIN_AREA_SHARE = 0.01
RIM = 2
"""Pixels at the edge of a thing that are not compared."""


@dataclass(frozen=True, eq=False)
class Shape:
    """A thing in a picture: its outline's name, None where none fits, its mask (H, W), its centre and radius in
    pixels."""

    name: str | None
    mask: np.ndarray
    place: tuple[float, float, float]


def shapes_in(picture: np.ndarray) -> list[Shape]:
    """The things in a picture (H, W, 3) of 0..1, from left to right."""
    smooth = ndimage.gaussian_filter(np.clip(picture, 0.0, 1.0), (0.7, 0.7, 0.0))
    border = np.concatenate([smooth[0], smooth[-1], smooth[:, 0], smooth[:, -1]])
    different = np.linalg.norm(smooth - np.median(border, 0), axis=2) > FROM_GROUND
    labels, count = ndimage.label(ndimage.binary_opening(different))
    found = []
    for number in range(1, count + 1):
        mask = ndimage.binary_fill_holes(labels == number)
        if mask.sum() >= MIN_AREA_SHARE * mask.size:
            scores = fit_shapes(mask)
            name = max(scores, key=scores.get)
            found.append(Shape(name if scores[name] >= FIT else None, mask, placed(mask, name)))
    return sorted(found, key=lambda shape: shape.place[0])


def one_of(shapes: Sequence[Shape], name: str) -> Shape | None:
    """The only thing of that name; None where there is none or several."""
    named = [shape for shape in shapes if shape.name == name]
    return named[0] if len(named) == 1 else None


def fill_error(picture: np.ndarray, shape: Shape, subject: Subject) -> float:
    """Root of the mean squared difference in RGB between a thing (in a square picture) and a subject's fill in its
    place."""
    pixels, expected = _compared(picture, shape, subject)
    return float(np.sqrt(np.square(pixels - expected).mean()))


def place_among(picture: np.ndarray, shape: Shape, subject: Subject, others: Sequence[Subject]) -> int:
    """How many of the other subjects fit the thing better than this one: 0 if it is the best."""
    own = fill_error(picture, shape, subject)
    return sum(fill_error(picture, shape, other) < own for other in others)


def share_of_other(picture: np.ndarray, shape: Shape, subject: Subject, other: Subject) -> float:
    """The part of a thing's pixels whose colour is nearer to one of the other subject's than to any of its own."""
    inner = _inner(shape)
    pixels = picture[inner]

    def nearest(of: Subject) -> np.ndarray:
        colours = np.asarray(of.colours[:1] if of.fill == "plain" else of.colours)
        return np.linalg.norm(pixels[:, None] - colours[None], axis=2).min(1)

    return float((nearest(other) < nearest(subject)).mean())


def _inner(shape: Shape) -> np.ndarray:
    inner = ndimage.binary_erosion(shape.mask, iterations=RIM)
    return inner if inner.any() else shape.mask


def _compared(picture: np.ndarray, shape: Shape, subject: Subject) -> tuple[np.ndarray, np.ndarray]:
    inner = _inner(shape)
    return picture[inner], filled(subject, *shape.place, len(picture))[inner]
