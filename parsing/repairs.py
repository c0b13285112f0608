"""Corrects what taggers, above all small ones, get wrong in prompts, where knowledge of words settles it."""

from __future__ import annotations

from dataclasses import replace

from . import word_classes as classes
from .lexicon import (
    ARTICLES,
    BODY,
    CLOTHES,
    COLORS,
    COMPOUNDS,
    DESCRIBING,
    HAVING,
    LIVING,
    PATTERNS,
    POSSESSIVES,
    POSTURES,
    PREPOSITIONS,
)
from .tagging import Word
from .word_classes import ANIMAL, CONCRETE, PERSON, noun_classes, parts_of_speech

BEFORE_NOUN = ("adjective", "determiner", "number")
INFLECTIONS = ("ing", "ed", "s")
PASSES = 2
"""What is repaired of a word may settle what the word before it is: "a lantern floats above"."""
AFTER_VERB = ("preposition", "adverb", "determiner", "number", "punctuation")


def repaired(words: list[Word]) -> list[Word]:
    """The words with corrected kinds and tags, of the same number."""
    kinds = {word.kind for word in words}
    lacks_verb = "conjunction" in kinds and not kinds & {"verb", "auxiliary"}
    done = list(words)
    for _ in range(PASSES):
        for i in range(len(done)):
            done[i] = _repaired(done, i, lacks_verb)
    return done


def _repaired(words: list[Word], i: int, lacks_verb: bool) -> Word:
    word, before, after = words[i], _at(words, i - 1), _at(words, i + 1)
    if before and f"{before.lower} {word.lower}" in COMPOUNDS:
        return replace(word, kind="noun", tag="NN")
    if _is_added(before, word, after) and word.kind != "adjective":
        return replace(word, kind="adjective", tag="JJ")
    if _is_added(word, after, _at(words, i + 2)) and "n" in parts_of_speech(word.lower) and word.lower not in COLORS:
        return replace(word, kind="noun", tag="NN")
    if word.kind == "verb" and parts_of_speech(word.lower) == "n" and not word.lower.endswith(INFLECTIONS):
        return replace(word, kind="noun", tag="NN")
    if word.kind in ("verb", "preposition", "adverb", "other") and _is_noun(word, before, after):
        return replace(word, kind="noun", tag="NNS" if word.lower != word.lemma else "NN")
    if word.kind == "verb" and _is_participle_before_noun(word, before, after, _noun_after(words, i)):
        return replace(word, kind="adjective")
    if (word.kind == "adverb" and word.lower in COLORS) or (word.kind == "verb" and word.lower in PATTERNS):
        return replace(word, kind="adjective", tag="JJ")
    if word.kind == "noun" and _is_participle_in_dress(word, before, after):
        return replace(word, kind="adjective", tag="VBG")
    parts = parts_of_speech(word.lower)
    named = ("n" in parts and "a" not in parts) or word.lower in LIVING | CLOTHES | BODY
    named = named or noun_classes(word.lower)[:1] in (PERSON, ANIMAL)
    if word.kind == "adjective" and "n" in parts and after and _is_finite(after, _at(words, i + 2)):
        return replace(word, kind="noun", tag="NN")
    if word.kind == "adjective" and named and word.lower not in DESCRIBING:
        if word.lower in LIVING and _is_all(before, after):
            return replace(word, kind="noun", tag="NN")
        doing = after is not None and _is_doing(after)
        goes_on = after is not None and after.kind in ("noun", "adjective") and not doing
        if before and before.kind != "preposition" and not goes_on:
            return replace(word, kind="noun", tag="NN")
    if word.kind == "noun" and before and before.kind in ("noun", "adjective") and not word.proper:
        if lacks_verb and word.lower in POSTURES and before.kind == "noun" and after and after.kind == "preposition":
            return replace(word, kind="verb", tag="VBP")
        if verb := _verb(words, i):
            return verb
    if word.kind in ("noun", "verb") and parts_of_speech(word.lower) in ("a", "ar", "ra"):
        opens = before is None or before.kind == "punctuation"
        if opens or (word.kind == "noun" and after and after.kind == "noun"):
            return replace(word, kind="adjective", tag="JJ")
    return word


def _at(words: list[Word], i: int) -> Word | None:
    return words[i] if 0 <= i < len(words) else None


def _is_added(noun: Word | None, word: Word | None, after: Word | None) -> bool:
    """Whether a word is a colour in parentheses behind what it describes: "roses (pink)"."""
    if noun is None or word is None or word.lower not in COLORS or noun.weight == word.weight:
        return False
    return noun.kind not in ("determiner", "number", "punctuation", "preposition", "conjunction") and (
        after is None or after.kind in ("punctuation", "conjunction", "preposition")
    )


def _is_all(before: Word | None, after: Word | None) -> bool:
    """Whether a word is all of an item of a list."""
    return all(each is None or each.kind == "punctuation" for each in (before, after))


def _describes(word: Word) -> bool:
    return word.kind in BEFORE_NOUN or word.lower in DESCRIBING


def _is_noun(word: Word, before: Word | None, after: Word | None) -> bool:
    """Whether a word tagged as a verb is a noun: known as one above all, after what stands before nouns ("a fluffy
    orange kitten wearing ...")."""
    opens = before is None or before.kind == "punctuation"
    if opens and word.tag == "VBZ" and (after is None or after.tag == "VBG" or after.kind == "punctuation"):
        return noun_classes(word.lemma)[:1] in (PERSON, ANIMAL)
    if opens and (after is None or after.kind == "punctuation") and word.tag != "VBG":
        return noun_classes(word.lower)[:1] in tuple(CONCRETE) or word.lower in BODY | CLOTHES
    ends = after is None or after.kind in ("verb", "punctuation", "preposition")
    if before and before.kind == "conjunction" and word.tag in ("VB", "VBP") and ends:
        return word.lower in BODY | CLOTHES
    if before is None or not _describes(before) or word.lower in HAVING | PREPOSITIONS or word.tag == "VBG":
        return False
    if after and after.kind == "noun" and word.tag in ("VBN", "VBD"):
        return False
    parts = [parts_of_speech(form) for form in (word.lower, word.lower.removesuffix("s"))]
    return any(each[:1] == "n" and (word.kind != "adverb" or "r" not in each) for each in parts)


def _is_participle_before_noun(word: Word, before: Word | None, after: Word | None, noun: Word | None) -> bool:
    """Whether a participle describes the noun to come: "in shining black armor", "with glowing eyes"."""
    if word.tag not in ("VBG", "VBN", "VBD") or word.lower in HAVING or after is None:
        return False
    if after.kind not in ("noun", "adjective"):
        return False
    if before is not None and (before.lower in HAVING or before.lower == "of" or before.kind == "determiner"):
        return True
    of_body = noun is not None and classes.BODY in noun_classes(noun.lemma, noun.lower)[:1]
    if before is not None and before.kind == "conjunction" and (word.tag != "VBG" or of_body):
        return True
    if before is not None and before.kind != "punctuation":
        return False
    return word.lower.endswith("ed") or of_body


def _noun_after(words: list[Word], i: int) -> Word | None:
    """The noun after a word and its adjectives."""
    while i + 1 < len(words) and words[i + 1].kind == "adjective":
        i += 1
    after = _at(words, i + 1)
    return after if after and after.kind == "noun" else None


def _is_doing(word: Word) -> bool:
    """Whether a word in -ing is more likely a verb than a thing: feeding, not a building."""
    return (
        word.lower.endswith("ing") and _is_verb(word.lower, 3) and noun_classes(word.lower)[:1] not in tuple(CONCRETE)
    )


def _is_finite(word: Word, after: Word | None) -> bool:
    """Whether a noun in -s is more likely what someone does: "puffs past", "butts a pail"."""
    stem = word.lower.removesuffix("s")
    follows = after is not None and (after.kind in ("preposition", "determiner") or after.lower in PREPOSITIONS)
    ends = word.lower.endswith("s") and not word.lower.endswith("ss")
    return ends and follows and "v" in parts_of_speech(stem) and word.kind == "noun"


def _is_participle_in_dress(word: Word, before: Word | None, after: Word | None) -> bool:
    """Whether "matching" in "both in matching pajamas" was taken for a noun."""
    if not (before and after and before.lower in HAVING and word.lower.endswith("ing")):
        return False
    described = after.kind in ("noun", "adjective") or after.lower in DESCRIBING
    return described and _is_doing(word)


def _verb(words: list[Word], i: int) -> Word | None:
    """The word as a verb, if it is one of a subject before it: "a metallic bicycle leans against", "two boats drift
    across", "a groom in a black tuxedo dancing"."""
    word, after = words[i], _at(words, i + 1)
    if after and after.kind == "conjunction":
        acting = noun_classes(words[i - 1].lemma)[:1] in (PERSON, ANIMAL) and parts_of_speech(word.lemma)[:1] == "v"
        return replace(word, kind="verb", tag="VBZ") if acting and word.lower.endswith("s") else None
    doing = word.lower.endswith("ing") and after is not None and after.kind in ("noun", "adjective")
    follows = after is None or after.kind in AFTER_VERB or after.lower in PREPOSITIONS or after.lower in POSSESSIVES
    if not (follows or doing):
        return None
    start = i
    while start > 0 and words[start - 1].kind in ("noun", "adjective", "number", "adverb"):
        start -= 1
    opens = _at(words, start - 1)
    first = opens if opens and opens.kind == "determiner" else words[start]
    if word.lower.endswith("ing"):
        if doing and words[i - 1].lower in DESCRIBING:
            return None
        acts = first.kind == "determiner" or noun_classes(words[i - 1].lemma)[:1] in (PERSON, ANIMAL)
        acting = acts and words[i - 1].kind == "noun" and _is_doing(word)
        return replace(word, kind="verb", tag="VBG") if acting else None
    single = first.lower in ARTICLES or first.lower == "one"
    if word.lower.endswith("s") and not word.lower.endswith("ss"):
        stem = word.lemma if parts_of_speech(word.lemma) else word.lower[:-1]
        plural_before = words[i - 1].tag == "NNS" or words[i - 1].lower in DESCRIBING
        parts = parts_of_speech(stem)
        led_on = after is not None and after.kind == "preposition" and words[i - 1].lower not in DESCRIBING
        of_another = plural_before and led_on and not single and opens is not None and opens.kind == "conjunction"
        if of_another and parts[:1] == "v":  # "a girl with braces and headphones leans against"
            return replace(word, kind="verb", tag="VBZ", lemma=stem)
        if "v" in parts and not plural_before and (parts[0] == "v" or (single and after is not None)):
            return replace(word, kind="verb", tag="VBZ", lemma=stem)
        return None
    if words[i - 1].tag == "NNS" and not single and "v" in parts_of_speech(word.lower) and after is not None:
        return replace(word, kind="verb", tag="VBP")
    return None


def _is_verb(form: str, ending: int) -> bool:
    stem = form[:-ending]
    return any("v" in parts_of_speech(base) for base in (stem, stem + "e", stem[:-1]) if base)
