"""Captions of scenes: several ways to say the same, from which a text encoder can learn what single words mean."""

import numpy as np

from .scenes import Thing

FORMS = ("plain", "list", "relative", "predicate", "bare", "colours")
FORM_PROBABILITY = (0.60, 0.10, 0.08, 0.07, 0.09, 0.06)
"""a red circle and a blue square | red circle, blue square | a circle that is red and ... | the circle is red and ... |
a circle and a square | something red and something blue."""

OPENINGS = ("a picture of ", "a photo of ", "an image of ")
OPENING_PROBABILITY = 0.12
COLOUR_OMISSION_PROBABILITY = 0.06
MARK_OMISSION_PROBABILITY = 0.05
BARE_WORD_PROBABILITY = 0.3
"""Bare nouns and colours are sometimes the words alone: "circle" instead of "a circle"."""


def with_article(words: str) -> str:
    """The words with the indefinite article."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def with_mark(words: str, mark: str | None) -> str:
    """The words followed by the mark, if there is one."""
    return f"{words} with a {mark}" if mark else words


def join(phrases: list[str], comma_only: bool = False) -> str:
    """Phrases as an English list: "a, b and c", or with commas only."""
    if comma_only or len(phrases) == 1:
        return ", ".join(phrases)
    return f"{', '.join(phrases[:-1])} and {phrases[-1]}"


def plain_caption(things: tuple[Thing, ...]) -> str:
    """The caption evaluation uses: "a red circle with a dot and a blue square"."""
    return join([with_mark(with_article(f"{thing.colour} {thing.shape}"), thing.mark) for thing in things])


def bare_caption(things: tuple[Thing, ...]) -> str:
    """The same things without colours and marks: "a circle and a square"."""
    return join([with_article(thing.shape) for thing in things])


def sample_caption(rng: np.random.Generator, things: tuple[Thing, ...]) -> str:
    """One of the many captions of these things, which are named in any order."""
    things = tuple(things[index] for index in rng.permutation(len(things)))
    form = str(rng.choice(FORMS, p=FORM_PROBABILITY))
    word_alone = rng.random() < BARE_WORD_PROBABILITY

    def colour(thing: Thing) -> str:
        return "" if rng.random() < COLOUR_OMISSION_PROBABILITY else f"{thing.colour} "

    def mark(words: str, thing: Thing) -> str:
        return words if rng.random() < MARK_OMISSION_PROBABILITY else with_mark(words, thing.mark)

    if form == "predicate":
        return join([f"{mark(f'the {thing.shape}', thing)} is {thing.colour}" for thing in things])
    if form == "relative":
        phrases = [mark(f"a {thing.shape} that is {thing.colour}", thing) for thing in things]
    elif form == "bare":
        phrases = [thing.shape if word_alone else with_article(thing.shape) for thing in things]
    elif form == "colours":
        phrases = [thing.colour if word_alone else f"something {thing.colour}" for thing in things]
    elif form == "list":
        phrases = [mark(f"{colour(thing)}{thing.shape}", thing) for thing in things]
    else:
        phrases = [mark(with_article(f"{colour(thing)}{thing.shape}"), thing) for thing in things]
    opening = str(rng.choice(OPENINGS)) if rng.random() < OPENING_PROBABILITY else ""
    return opening + join(phrases, comma_only=form == "list")
