"""Sets of prompts by which binding in the demo model's world is measured."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations, product

import numpy as np

from ..world.captions import join, with_article, with_mark
from ..world.names import COLOURS, FAVOURITE_COLOUR, MARKS, SHAPES
from .wanted import Wanted

SOME = 1000


@dataclass(frozen=True)
class Prompt:
    """A prompt and what it asks for."""

    text: str
    wanted: tuple[Wanted, ...]


def prompt_for(things: tuple[tuple[str, ...], ...]) -> Prompt:
    """ "a red circle with a dot and a blue square" for (shape, colour) or (shape, colour, mark) of each thing."""
    wanted = tuple(Wanted(shape, shape, colour, *mark) for shape, colour, *mark in things)
    phrases = [with_mark(with_article(f"{thing.colour} {thing.shape}"), thing.mark) for thing in wanted]
    return Prompt(join(phrases), wanted)


def _favourites(things) -> list[bool]:
    return [FAVOURITE_COLOUR[shape] == colour for shape, colour in things]


def _taken(things) -> int:
    """How many of two things have the other's favourite colour."""
    (first, first_colour), (second, second_colour) = things
    return (FAVOURITE_COLOUR[first] == second_colour) + (FAVOURITE_COLOUR[second] == first_colour)


_SINGLES = tuple((thing,) for thing in product(SHAPES, COLOURS))
_PAIRS = tuple(
    (first, second)
    for first, second in permutations(product(SHAPES, COLOURS), 2)
    if first[0] != second[0] and first[1] != second[1]
)


def _some(count: int) -> tuple[Prompt, ...]:
    """Some of the many prompts of so many things, always the same: distinct shapes in distinct colours, each any."""
    rng = np.random.default_rng(count)
    drawn = (
        zip(*(map(str, rng.permutation(names)[:count]) for names in (SHAPES, COLOURS)), strict=True)
        for _ in range(SOME)
    )
    return tuple(dict.fromkeys(prompt_for(tuple(things)) for things in drawn))


PROMPT_SETS = {
    "single_fav": tuple(prompt_for(things) for things in _SINGLES if all(_favourites(things))),
    "single_counter": tuple(prompt_for(things) for things in _SINGLES if not any(_favourites(things))),
    "two_fav": tuple(prompt_for(things) for things in _PAIRS if all(_favourites(things))),
    "two_counter": tuple(prompt_for(t) for t in _PAIRS if not any(_favourites(t)) and _taken(t) == 0),
    "two_half": tuple(prompt_for(t) for t in _PAIRS if not any(_favourites(t)) and _taken(t) == 1),
    "two_swap": tuple(prompt_for(t) for t in _PAIRS if _taken(t) == 2),
    "three": _some(3),
    "four": _some(4),
    "single_marked": tuple(prompt_for(((*thing, mark),)) for (thing,) in _SINGLES for mark in MARKS),
    "two_first_marked": tuple(prompt_for(((*first, mark), second)) for (first, second), mark in product(_PAIRS, MARKS)),
    "two_marked": tuple(
        prompt_for(((*first, mark), (*second, other)))
        for (first, second), (mark, other) in product(_PAIRS, permutations(MARKS))
    ),
}
"""The prompts of each set, things named in any order. Of several things the shapes differ and the colours differ:

- single_fav, single_counter: one thing, with and without its shape's favourite colour;
- two_fav: both have their favourite colour; two_swap: each has the other's;
- two_counter: neither colour is the favourite of either shape;
- two_half: one has the other's favourite colour, the other has neither's. Settings are chosen on these prompts;
- three, four: so many things, in any colours; a thousand of the prompts that there are;
- single_marked: one thing in any colour, with a mark; two_marked: two, one with a dot and the other with a bar;
- two_first_marked: two, the first with a mark. Settings for marks are chosen on these prompts.
"""


def draw_prompts(name: str, count: int, seed: int = 0) -> list[Prompt]:
    """`count` prompts of a set in an order given by the seed; all of them come up before one comes again.

    Raises:
        ValueError: there is no such set.
    """
    if name not in PROMPT_SETS:
        raise ValueError(f"There is no prompt set {name!r}. There are: {', '.join(PROMPT_SETS)}.")
    prompts = PROMPT_SETS[name]
    order = np.random.default_rng(seed).permutation(len(prompts))
    return [prompts[order[index % len(prompts)]] for index in range(count)]
