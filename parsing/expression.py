"""Sums of phrases as a user writes them: "dog + 0.8 * hat", "king - man + woman"."""

from __future__ import annotations

import math
import re
from typing import NamedTuple

SIGNS = {"+": 1.0, "-": -1.0, "\u2212": -1.0, "\u2013": -1.0}
BETWEEN = re.compile(r"(?<!\S)([+\-\u2212\u2013])(?!\S)")
HALF_APART = re.compile(r"\+|(?<!\S)-|-(?!\S)")
"""A sign that is part of a word, or might be: a hyphen is, with a letter on both sides ("t-shirt")."""
ESCAPED = re.compile(r"\\[()]")


class Term(NamedTuple):
    """A phrase in prompt syntax and the number it counts with; below 0 it is taken away."""

    weight: float
    phrase: str


def parse(expression: str) -> tuple[Term, ...]:
    """The terms of a sum, in order. Signs have white space on both sides; a phrase may have its weight before it.

    Raises:
        ValueError: the expression is empty, or part of it is not understood; the message names the part.
    """
    if not expression.strip():
        raise ValueError(
            'The expression is empty. Write a sum of phrases, for example "a dog + a dog with a hat - a dog".'
        )
    first, *others = BETWEEN.split(expression.strip())
    signs, parts = others[0::2], [first, *others[1::2]]
    _check_sides(signs, parts)
    return tuple(_term(SIGNS[sign], part.strip()) for sign, part in zip(["+", *signs], parts, strict=True))


def written(terms: tuple[Term, ...]) -> str:
    """The sum as ``parse`` reads it."""
    texts = [f"{abs(weight):g} * {phrase}" if abs(weight) != 1 else phrase for weight, phrase in terms]
    signs = ["-" if term.weight < 0 else "+" for term in terms]
    return " ".join(f"{sign} {text}" for sign, text in zip(signs, texts, strict=True)).removeprefix("+ ")


def _check_sides(signs: list[str], parts: list[str]) -> None:
    """Raise ValueError unless there is a phrase on both sides of every sign."""
    for number, sign in enumerate(signs):
        for part, side in ((parts[number], "before"), (parts[number + 1], "behind")):
            if not part.strip():
                shown = f"{parts[number]}{sign}{parts[number + 1]}".strip()
                raise _misunderstood(shown, f'there is no phrase {side} "{sign}"')


def _term(sign: float, part: str) -> Term:
    """A phrase with or without a weight."""
    if HALF_APART.search(part):
        raise _misunderstood(part, 'write "+" and "-" with a space on both sides')
    number, star, phrase = part.rpartition("*")
    phrase = phrase.strip()
    weight = _number(number) if star else 1.0
    if weight is None:
        raise _misunderstood(part, 'before "*" stands one number, as in "0.8 * hat"')
    if not phrase:
        raise _misunderstood(part, 'there is no phrase behind "*"')
    plain = ESCAPED.sub("", phrase)
    if plain.count("(") != plain.count(")"):
        raise _misunderstood(
            part, 'parentheses open and close within one phrase, as in "(red:1.2) hat"; write sums without them'
        )
    word = phrase.split()[0]
    if _number(word) is not None and ("." in word or word == phrase):
        raise _misunderstood(part, f'if {word} is a weight, write "{word} * hat"')
    return Term(sign * weight, phrase)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _misunderstood(part: str, why: str) -> ValueError:
    return ValueError(f'In the expression, "{part}" is not understood: {why}.')
