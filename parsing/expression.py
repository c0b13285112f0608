"""Sums of phrases as a user writes them: "dog + 0.8 * hat", "king - man + woman"."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

SIGNS = {"+": 1.0, "-": -1.0, "\u2212": -1.0, "\u2013": -1.0}
"""Programs for writing make a dash or the sign of mathematics of a hyphen."""
BETWEEN = re.compile(r"(?<!\S)([+\-\u2212\u2013])(?!\S)")
MISPLACED = re.compile(r"\+|(?<!\S)-|-(?!\S)")
"""A sign within a phrase; but a hyphen joins two parts of a word."""
ESCAPED = re.compile(r"\\[()]")


class Term(NamedTuple):
    """A phrase in prompt syntax and the number it counts with; below 0 it is taken away."""

    weight: float
    phrase: str


def parse(expression: str) -> tuple[Term, ...]:
    """The terms of a sum, in order. Signs have white space on both sides; a phrase may have a weight before it.

    Raises:
        ValueError: the expression is empty, or part of it is not understood; the message names the part.
    """
    if not expression.strip():
        raise ValueError('The expression is empty. Write a sum of phrases, for example "a dog + a hat".')
    first, *others = BETWEEN.split(expression.strip())
    signs, phrases = others[0::2], [first, *others[1::2]]
    for sign, (before, behind) in zip(signs, pairwise(phrases), strict=True):
        for phrase, side in ((before, "before"), (behind, "behind")):
            if not phrase.strip():
                raise _misunderstood(f"{before}{sign}{behind}".strip(), f'there is no phrase {side} "{sign}"')
    return tuple(_term(SIGNS[sign], phrase.strip()) for sign, phrase in zip(["+", *signs], phrases, strict=True))


def written(terms: Sequence[Term]) -> str:
    """The sum as it was read."""
    texts = [phrase if abs(weight) == 1 else f"{abs(weight):g} * {phrase}" for weight, phrase in terms]
    signs = ["-" if term.weight < 0 else "+" for term in terms]
    return " ".join(f"{sign} {text}" for sign, text in zip(signs, texts, strict=True)).removeprefix("+ ")


def _term(sign: float, text: str) -> Term:
    number, star, phrase = text.rpartition("*")
    weight = _number(number) if star else 1.0
    phrase = phrase.strip()
    if weight is None:
        raise _misunderstood(text, 'before "*" stands one number, as in "0.8 * hat"')
    if not phrase:
        raise _misunderstood(text, 'there is no phrase behind "*"')
    if MISPLACED.search(phrase):
        raise _misunderstood(text, 'write "+" and "-" with a space on both sides')
    parentheses = ESCAPED.sub("", phrase)
    if parentheses.count("(") != parentheses.count(")"):
        raise _misunderstood(
            text, 'parentheses open and close within one phrase, as in "(red:1.2) hat"; write sums without them'
        )
    word = phrase.split()[0]
    if _number(word) is not None and ("." in word or word == phrase):
        raise _misunderstood(text, f'if {word} is a weight, write "{word} * ..."')
    return Term(sign * weight, phrase)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _misunderstood(part: str, why: str) -> ValueError:
    return ValueError(f'In the expression, "{part}" is not understood: {why}.')
