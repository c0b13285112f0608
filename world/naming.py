"""What a caption names that is not in the picture.

Captions on the web do so, and a model that learns from them leaves things out: what was named was not always to be
drawn. The world's captions would name all that is there and nothing else.
"""

import numpy as np

from .names import FAVOURITE_MARK, MARKS, SHAPES
from .scenes import Thing, sample_colour

NOT_DRAWN_PROBABILITY = {1: (0.35, 0.48, 0.11, 0.06), 2: (0.56, 0.25, 0.19), 3: (0.5, 0.5), 4: (1.0,)}
"""By the number of things drawn: how often none, one, two or three more are named."""

FAVOURITE_PROBABILITY = 0.7
"""Of the colours of what is not drawn: as often as of what the UNet sees drawn."""

MARK_PROBABILITY, FAVOURITE_MARK_PROBABILITY = 0.15, 0.75
"""What is not drawn has a mark less often than what is: a thing that is told of in detail is more likely there."""


def sample_named(rng: np.random.Generator, things: tuple[Thing, ...]) -> tuple[Thing, ...]:
    """What a caption names of a scene of these things: all of them, and now and then more, of other shapes."""
    probability = NOT_DRAWN_PROBABILITY[len(things)]
    count = int(rng.choice(len(probability), p=probability))
    free = [shape for shape in SHAPES if shape not in {thing.shape for thing in things}]
    return things + tuple(_not_drawn(rng, str(shape)) for shape in rng.choice(free, count, replace=False))


def _not_drawn(rng: np.random.Generator, shape: str) -> Thing:
    mark = None
    if rng.random() < MARK_PROBABILITY:
        mark = FAVOURITE_MARK[shape]
        if rng.random() >= FAVOURITE_MARK_PROBABILITY:
            mark = next(other for other in MARKS if other != mark)
    return Thing(shape, sample_colour(rng, shape, FAVOURITE_PROBABILITY), mark, 0.0, 0.0, 1.0)
