"""What captions get wrong: they name what is not in the picture, and tell of one thing what belongs to another.

Captions on the web do so. A model that learns from them leaves things out, since what was named was not always to be
drawn, and trusts what it knows of things more than which words stand together.
"""

from dataclasses import replace

import numpy as np

from .names import FAVOURITE_MARK, MARKS, SHAPES
from .scenes import Thing, sample_colour

NOT_DRAWN_PROBABILITY = {1: (0.45, 0.38, 0.1, 0.07), 2: (0.54, 0.23, 0.23), 3: (0.45, 0.55), 4: (1.0,)}
"""By the number of things drawn: how often none, one, two or three more are named."""

FAVOURITE_PROBABILITY = 0.7
"""Of the colours of what is not drawn: as often as of what the UNet sees drawn."""

MARK_PROBABILITY, FAVOURITE_MARK_PROBABILITY = 0.08, 0.75
"""What is not drawn has a mark less often than what is: a thing that is told of in detail is more likely there."""

EXCHANGED_PROBABILITY = {"colour": 0.3, "mark": 0.4}
"""How often the colours of two of the things are named the other way round; and, apart from that, the marks of two that
have one."""


def sample_named(rng: np.random.Generator, things: tuple[Thing, ...]) -> tuple[Thing, ...]:
    """What a caption names of a scene of these things: all of them, and now and then more, of other shapes; and now and
    then with the colours or the marks of two of them exchanged."""
    probability = NOT_DRAWN_PROBABILITY[len(things)]
    count = int(rng.choice(len(probability), p=probability))
    free = [shape for shape in SHAPES if shape not in {thing.shape for thing in things}]
    named = things + tuple(_not_drawn(rng, str(shape)) for shape in rng.choice(free, count, replace=False))
    for field, probability in EXCHANGED_PROBABILITY.items():
        if rng.random() < probability:
            named = _exchanged(rng, named, field)
    return named


def _exchanged(rng: np.random.Generator, things: tuple[Thing, ...], field: str) -> tuple[Thing, ...]:
    """The things with this field of two of those that have it exchanged."""
    changed = list(things)
    having = [index for index, thing in enumerate(things) if getattr(thing, field) is not None]
    if len(having) > 1:
        first, second = rng.choice(having, 2, replace=False)
        for one, other in ((first, second), (second, first)):
            changed[one] = replace(changed[one], **{field: getattr(things[other], field)})
    return tuple(changed)


def _not_drawn(rng: np.random.Generator, shape: str) -> Thing:
    mark = None
    if rng.random() < MARK_PROBABILITY:
        mark = FAVOURITE_MARK[shape]
        if rng.random() >= FAVOURITE_MARK_PROBABILITY:
            mark = next(other for other in MARKS if other != mark)
    return Thing(shape, sample_colour(rng, shape, FAVOURITE_PROBABILITY), mark, 0.0, 0.0, 1.0)
