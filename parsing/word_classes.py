"""What kind of thing a noun is, and which parts of speech a word can be: WordNet's knowledge, from the table that
``wordnet/make_table.py`` makes (licence: ``wordnet/LICENSE.txt``)."""

from __future__ import annotations

import gzip
from functools import lru_cache
from pathlib import Path

TABLE = Path(__file__).parent / "wordnet" / "words.txt.gz"

PERSON, ANIMAL, BODY, WORN, HELD, PLANT, FOOD, SHAPE, THING = "PABWHLFDO"
BIG = "VUKGN"
"""Vehicles, furniture, buildings and rooms, places, nature: nothing that is carried."""
STRUCTURE, FURNITURE, VEHICLE, CONTAINER, NATURE = "KUVCN"
HOUSING = ("K", "G")
PART = "R"
TIME, QUALITY = "TX"
CONCRETE = "PABWHVUKCLFMDO"
SHORTEST_TAIL = 4


def noun_classes(*forms: str) -> str:
    """The classes of a noun's senses, most used first, as letters of the table.

    Args:
        forms: spellings of the noun; the first that the table has counts. A word it does not have is looked up as
            what it ends with: "headscarf" as "scarf".
    """
    for form in forms:
        if found := _entry(form)[1]:
            return found
    word = forms[-1]
    tails = (word[at:] for at in range(2, len(word) - SHORTEST_TAIL + 1))
    return next(filter(None, (_entry(tail)[1] for tail in tails)), "")


def parts_of_speech(word: str) -> str:
    """The parts of speech a base form can be, most used first: n, v, a (adjective), r (adverb). "" if unknown."""
    return _entry(word)[0]


def sex(noun: str) -> str:
    """ "f" of a noun for women, "m" of one for men, else ""."""
    return _entry(noun)[2]


def _entry(word: str) -> tuple[str, str, str]:
    line = _table().get(word, "")
    return tuple((line.split("\t") + ["", "", ""])[:3])


@lru_cache(maxsize=1)
def _table() -> dict[str, str]:
    text = gzip.decompress(TABLE.read_bytes()).decode()
    return dict(line.split("\t", 1) for line in text.split("\n"))
