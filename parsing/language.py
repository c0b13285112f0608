"""Whether a prompt is English, told by its letters, function words and the share of known words."""

from __future__ import annotations

import re
import unicodedata

from .lexicon import FUNCTION_WORDS
from .word_classes import parts_of_speech

FOREIGN = frozenset(
    """
    der das dem ein eine einen einem einer eines und mit auf im ist sind neben unter vor hinter zwischen aus zum zur von
    ohne
    le les un une du avec dans sur sous et est sont qui porte devant chez aux sans
    el los las una con y del al junto sobre lleva entre unos unas
    gli uno nel nella sul sulla accanto della di che indossa ed
    uma ao
    en het een op naast onder
    noir noire blanc blanche rouge bleu bleue vert verte jaune roux rousse femme homme fille
    schwarz schwarze weiß weiße rote roter blau blaue grün grüne gelb gelbe frau mädchen junge
    negro negra blanco blanca rojo roja amarillo verde mujer hombre niña rosso bianco nero
    """.split()
)
"""Function words, colours and people in German, French, Spanish, Italian, Portuguese and Dutch. One alone proves
nothing."""

SURE_SHARE = 0.75
KNOWN_SHARE = 0.34
FEWEST_WORDS = 3
ENDINGS = ("", "s", "es", "d", "ed", "ing", "er", "est", "ly")


def is_english(text: str) -> bool:
    """Whether the parser can read the text. Lists of tags with unknown names pass; text in other letters does not."""
    letters = [char for char in text if char.isalpha()]
    latin = sum("LATIN" in unicodedata.name(char, "") for char in letters)
    if latin < len(letters) / 2:
        return False
    words = re.findall(r"[^\W\d_]+", text.lower())
    foreign = sum(word in FOREIGN for word in words)
    english = sum(word in FUNCTION_WORDS for word in words)
    known = sum(word in FUNCTION_WORDS or is_known(word) for word in words)
    if foreign and foreign >= english and known < len(words) / 2:
        return False
    if foreign > english and (foreign > 1 or known < SURE_SHARE * len(words)):
        return False
    return len(words) < FEWEST_WORDS or english > 0 or known >= KNOWN_SHARE * len(words)


def is_known(word: str) -> bool:
    """Whether WordNet has the word, or a base form that it can be of."""
    return any(
        word.endswith(ending) and any(parts_of_speech(word[: len(word) - len(ending)] + e) for e in ("", "e", "y"))
        for ending in ENDINGS
    )
