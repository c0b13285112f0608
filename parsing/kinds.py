"""What a noun phrase stands for: a living thing, part of a body, something worn, something too big to be carried; and
with that, what can belong to what."""

from __future__ import annotations

from . import word_classes as classes
from .lexicon import BODY, CAUGHT, CLOTHES, COLORS, FEMALE, GROUNDS, LIVING, MALE, MARKS, PARTS, PATTERNS
from .phrases import NounPhrase
from .picture_tags import SUBJECT_WORD
from .tagging import Word

FEMALE_ENDINGS = ("girl", "woman", "women", "mother", "daughter", "sister", "lady", "queen", "princess", "bride", "ess")
MALE_ENDINGS = ("boy", "father", "brother", "king", "prince", "groom", "husband", "wizard", "monk", "gentleman")
MAIN_SENSES = 2
THING_LIMBS = frozenset("leg arm back neck face foot head tail hand tooth wing horn shell spike scale".split()) | MARKS
"""Parts of bodies and marks on them that furniture, bottles, clocks and planes have too."""


class Kinds:
    """Asked by the index of a phrase."""

    def __init__(self, words: list[Word], phrases: list[NounPhrase]):
        self.words, self.phrases = words, phrases
        self._classes = [self._look_up(phrase) for phrase in phrases]

    def _look_up(self, phrase: NounPhrase) -> str:
        head = self.words[phrase.head]
        whole = " ".join(self.words[i].lower for i in phrase.noun)
        if len(phrase.noun) == 1 and classes.WORN in classes.noun_classes(head.lower)[:1]:
            return classes.noun_classes(head.lower)  # glasses, not more than one glass
        forms = (whole,) if len(phrase.noun) > 1 else ()
        if head.lower == f"{head.lemma}es":
            forms += (head.lower[:-1],)  # vases are not of a "vas"
        return classes.noun_classes(*forms, head.lemma, head.lower)

    def is_in(self, n: int, nouns: frozenset[str]) -> bool:
        head = self.words[self.phrases[n].head]
        return head.lower in nouns or head.lemma in nouns

    def lives(self, n: int) -> bool:
        """Persons, animals and beings of tales; a teddy bear does not."""
        if len(self.phrases[n].noun) == 1 and (self.is_in(n, LIVING) or self.is_subject_tag(n)):
            return True
        if self._classes[n][:1] in (classes.PERSON, classes.ANIMAL):
            return not self.is_in(n, CLOTHES | BODY | COLORS)
        return classes.PERSON in self._classes[n] and self._classes[n][0] not in classes.CONCRETE and self._is_being(n)

    def _is_being(self, n: int) -> bool:
        """Whether the word before the noun names a being: "a vampire count"."""
        return any(self.words[i].lower in LIVING for attribute in self.phrases[n].attributes for i in attribute)

    def is_person(self, n: int) -> bool:
        return self.lives(n) and (self._classes[n][:1] != classes.ANIMAL)

    def is_subject_tag(self, n: int) -> bool:
        return SUBJECT_WORD.fullmatch(self.words[self.phrases[n].head].lower) is not None

    def is_body(self, n: int) -> bool:
        if self.lives(n) or self.is_in(n, CLOTHES):
            return False
        return classes.BODY in self._classes[n][:MAIN_SENSES] or self.is_in(n, BODY | THING_LIMBS)

    def is_worn(self, n: int) -> bool:
        return not self.lives(n) and (
            self.is_in(n, CLOTHES) or classes.WORN in self._classes[n].replace(classes.PART, "")[:MAIN_SENSES]
        )

    def is_part(self, n: int) -> bool:
        """A part of a thing: roof, wheel, handle, cushion."""
        if self.is_in(n, PARTS):
            return True
        return classes.PART in self._classes[n][: 2 * MAIN_SENSES] and self._classes[n][:1] not in ("V", "U")

    def may_be_part(self, n: int) -> bool:
        """A thing of no use of its own: neither held nor filled, eaten, growing or big."""
        return self._classes[n][:1] == classes.THING or self.is_unknown(n)

    def is_big(self, n: int) -> bool:
        """Vehicles, furniture, buildings, places: no one carries them."""
        main = self._classes[n].replace("S", "").replace("X", "")[:1]
        if main == classes.STRUCTURE and classes.HELD in self._classes[n]:
            return False  # a pipe
        if self.is_in(n, GROUNDS):
            return True
        return main != "" and main in classes.BIG and not self.is_worn(n)

    def houses(self, n: int, other: int) -> bool:
        """Whether the first is a room, building or place and the second furniture, which stands there for itself."""
        first, second = self._classes[n][:1], self._classes[other][:1]
        stands = second == classes.FURNITURE or (first == classes.STRUCTURE and second == classes.VEHICLE)
        return first in classes.HOUSING and stands and not self.is_part(other)

    def is_landscape(self, n: int) -> bool:
        """Valleys, rivers: what they are "with" stands there for itself."""
        return self._classes[n][:1] == classes.NATURE

    def is_handy(self, n: int) -> bool:
        """What may be in hands: weapons, tools, instruments, bags, small things."""
        main = self._classes[n].replace(classes.PART, "")[:MAIN_SENSES]
        loose = main[:1] == classes.THING and not self.is_big(n)
        return not self.lives(n) and (classes.HELD in main or loose)

    def is_container(self, n: int) -> bool:
        """Cups, quivers, boxes."""
        return classes.CONTAINER in self._classes[n][:MAIN_SENSES] and not self.is_big(n)

    def is_pattern(self, n: int) -> bool:
        return self.is_in(n, PATTERNS)

    def is_unknown(self, n: int) -> bool:
        return self._classes[n] == ""

    def is_loose(self, n: int) -> bool:
        """A thing that could be carried."""
        return not self.lives(n) and not self.is_big(n) and self._classes[n][:1] != classes.SHAPE

    def is_taken_in_hand(self, n: int) -> bool:
        """Whether a word for something living means a thing where it is held: a fish, a rake."""
        things = {classes.HELD, classes.THING, classes.WORN}.intersection(self._classes[n])
        return self.is_in(n, CAUGHT) or bool(things and not self.is_in(n, LIVING))

    def is_eaten(self, n: int) -> bool:
        return classes.FOOD in self._classes[n]

    def is_growing(self, n: int) -> bool:
        return self._classes[n][:1] == classes.PLANT

    def is_time(self, n: int) -> bool:
        """A time of day or year, in most of its senses."""
        return self._classes[n][:1] == classes.TIME

    def is_quality(self, n: int) -> bool:
        """A state, feeling, act or quality in all its senses."""
        return self._classes[n] == classes.QUALITY and not self.is_in(n, CLOTHES | BODY | LIVING)

    def alike(self, n: int, other: int) -> bool:
        """Whether two things are of one kind: two flowers, two dishes, two tools."""
        first, second = self._classes[n][:1], self._classes[other][:1]
        loose = ("H", "C", "O")
        same = first == second or (first in loose and second in loose)
        return same and first not in ("", classes.SHAPE, *classes.BIG)

    def is_plural(self, n: int) -> bool:
        phrase = self.phrases[n]
        return phrase.count > 1 or self.words[phrase.head].tag in ("NNS", "NNPS")

    def sex(self, n: int) -> str:
        """ "f", "m" or ""."""
        lemma = self.words[self.phrases[n].head].lemma
        if lemma.endswith(FEMALE_ENDINGS):
            return "f"
        return "m" if lemma.endswith(MALE_ENDINGS) else classes.sex(lemma)

    def can_be(self, n: int, pronoun: str) -> bool:
        """Whether "he", "she" or "it" can mean the phrase."""
        if pronoun in FEMALE:
            return self.lives(n) and self.sex(n) != "m"
        if pronoun in MALE:
            return self.lives(n) and self.sex(n) != "f"
        return not self.is_person(n)

    def fits(self, owner: int, owned: int, wearing: bool) -> bool:
        """Whether one can have the other: clothes and limbs are those of the living, but for a chair's legs."""
        if wearing:
            return self.can_wear(owner)
        if self.is_body(owned) or (self.is_worn(owned) and not self.is_part(owned)):
            limb = self.is_in(owned, THING_LIMBS) and not self.is_worn(owner)
            return self.lives(owner) or limb
        return True

    def can_wear(self, n: int) -> bool:
        """The living, and dolls, statues and the like."""
        return self.lives(n) or not (
            self.is_body(n) or self.is_worn(n) or self.is_big(n) or self.is_eaten(n) or self.is_growing(n)
        )
