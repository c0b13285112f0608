"""VISOR: whether two things are in the picture, and where one is from the other (arXiv 2212.10015)."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from ...world.captions import with_article
from .prompt import Prompt

RELATIONS = ("to the left of", "to the right of", "above", "below")
Point = tuple[float, float]


@dataclass(frozen=True)
class Seen:
    """Of one picture: whether both things are there, and whether they stand as the prompt says."""

    both: bool
    right: bool


@dataclass(frozen=True)
class Scores:
    """In percent. ``object_accuracy``: both things are there; ``conditional``: of these, they stand right (nan without
    one); ``unconditional``: both; ``at_least[n - 1]``: prompts of which n pictures or more are wholly right."""

    object_accuracy: float
    conditional: float
    unconditional: float
    at_least: tuple[float, ...]


def build(classes: Sequence[str], count: int, seed: int = 0) -> list[Prompt]:
    """`count` of all the prompts "a A to the left of a B", drawn without repetition; all of them if there are fewer.

    Raises:
        ValueError: there are fewer than two classes.
    """
    pairs = list(itertools.permutations(dict.fromkeys(classes), 2))
    if not pairs:
        raise ValueError("VISOR needs two classes or more.")
    every = [prompt_of(*pair, relation) for pair in pairs for relation in RELATIONS]
    return random.Random(seed).sample(every, min(count, len(every)))


def prompt_of(first: str, second: str, relation: str) -> Prompt:
    """ "a cat to the left of an apple" """
    return Prompt(f"{with_article(first)} {relation} {with_article(second)}", relation, (first, second), relation)


def stands(relation: str, first: Point, second: Point) -> bool:
    """Whether a thing with its centre (x, y) at `first`, downwards, is where the relation says from `second`."""
    across, down = first[0] - second[0], first[1] - second[1]
    return {"to the left of": across < 0, "to the right of": across > 0, "above": down < 0, "below": down > 0}[relation]


def scores(prompts: Sequence[Sequence[Seen]]) -> Scores:
    """Of the pictures of each prompt, all prompts with the same number of pictures counting alike."""
    pictures = [seen for each in prompts for seen in each]
    with_both = [seen for seen in pictures if seen.both]
    right = [sum(seen.both and seen.right for seen in each) for each in prompts]
    return Scores(
        100.0 * len(with_both) / len(pictures),
        100.0 * fmean(seen.right for seen in with_both) if with_both else float("nan"),
        100.0 * sum(right) / len(pictures),
        tuple(
            100.0 * fmean(count >= least for count in right)
            for least in range(1, max(map(len, prompts), default=0) + 1)
        ),
    )
