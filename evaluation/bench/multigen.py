"""MULTIGEN: how many of five things of a prompt are in the picture (TokenCompose, arXiv 2312.03626, section 5.1)."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from statistics import fmean, pstdev

from .prompt import Prompt

CATEGORY = "multigen"
OBJECTS = 5


def build(classes: Sequence[str], count: int, seed: int = 0) -> list[Prompt]:
    """`count` prompts of five distinct classes each; always "a", never "an", as the published prompts are.

    Raises:
        ValueError: there are fewer than five classes.
    """
    distinct = list(dict.fromkeys(classes))
    if len(distinct) < OBJECTS:
        raise ValueError(f"MULTIGEN needs {OBJECTS} classes or more, and these are {len(distinct)}.")
    draw = random.Random(seed)
    return [prompt_of(tuple(draw.sample(distinct, OBJECTS))) for _ in range(count)]


def prompt_of(objects: tuple[str, ...]) -> Prompt:
    """ "a photo of a cat, a bus, a tie, a cup, and a dog." """
    *first, last = (f"a {each}" for each in objects)
    return Prompt(f"a photo of {', '.join(first)}, and {last}.", CATEGORY, objects)


def scores(counts: Mapping[int, Sequence[int]]) -> dict[int, tuple[float, float]]:
    """MG_k for k of 1 to 5 in percent: the share of pictures with at least k of their things, and its spread.

    Args:
        counts: how many of its things each picture has, by the picture's number within its prompt; the spread is the
            population standard deviation of the share over these numbers.
    """
    every = [count for each in counts.values() for count in each]

    def share(found: Sequence[int], least: int) -> float:
        return 100.0 * fmean(count >= least for count in found)

    return {
        least: (share(every, least), pstdev([share(each, least) for each in counts.values()]))
        for least in range(1, OBJECTS + 1)
    }
