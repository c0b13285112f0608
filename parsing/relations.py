"""What belongs to which noun phrase: predicates, things worn, held or had, and possessions."""

from __future__ import annotations

from .clauses import COPULAS, Possession
from .kinds import Kinds
from .lexicon import COLORS, COVERED, HAVING, HOLDING, KIN, MATERIALS, POSSESSIVES, WEARING
from .looks import Looks
from .phrases import NounPhrase
from .tagging import Word

FINITE = ("VB", "VBD", "VBP", "VBZ")


class Relations(Looks):
    """Found once, for all noun phrases of a prompt.

    ``links``: as ``owners``, with what is there but lives, or is not there ("with no hat and a scarf"). ``doubtful``:
    phrase -> the one it was or was not given to, where that is a guess.
    """

    def __init__(self, words: list[Word], phrases: list[NounPhrase], excluded: set[int], kinds: Kinds):
        super().__init__(words, phrases, excluded, kinds)
        self._counted = [n for n in range(len(phrases)) if kinds.is_subject_tag(n)]
        self.links: dict[int, Possession] = {}
        self.doubtful: dict[int, int] = {}
        for i, word in enumerate(words):
            if i in self.starting_at:
                self._start(self.starting_at[i])
                self._described_later(self.starting_at[i])
            elif i not in self.phrase_of:
                self._link(i, word)
                if word.kind == "adjective" and self.is_item(i):
                    self._describe(i)

    def _link(self, i: int, word: Word) -> None:
        """What a word between the noun phrases joins."""
        if word.kind == "possessive":
            self._possess(self.ending_at.get(i), self.starting_at.get(i + 1), i + 1)
        elif word.lower in ("in", "with", "by") and i and self.words[i - 1].lower in COVERED:
            return
        elif word.lower in COVERED and i + 1 < len(self.words):
            self._covered(i)
        elif word.lower in WEARING and self._is_colour_alone(i + 1):
            self._clad(i)
        elif word.lower in HAVING - {"in"}:
            if (owned := self.object_of(i)) is not None and self._can_be_had(i, owned):
                self._own(self._owners(i, owned), owned, i)
        elif word.lower == "in":
            self._dressed(i)
        elif word.lower == "of":
            self._made_of(i)
            self._content(i)
        elif word.lemma in COPULAS and word.kind in ("auxiliary", "verb"):
            self._predicate(i)

    def owner(self, n: int) -> tuple[int, ...]:
        """The phrases at the top of the chain of owners; none if the phrase belongs to nothing."""
        tops, found = [n], []
        while tops:
            top = tops.pop(0)
            if top in self.owners:
                tops += self.owners[top].owners
            elif top != n:
                found.append(top)
        return tuple(found)

    def _own(self, owners: tuple[int, ...], owned: int | None, first: int) -> None:
        """Records a possession; a living thing is no sub-object ("a man with a dog") unless it is a dish, and an
        excluded noun owns nothing."""
        owners = tuple(self.again.get(n, n) for n in owners)
        owners = tuple(n for n in owners if n not in self.excluded and n != owned and owned not in self.owner(n))
        if not owners or owned is None or owned in self.owners:
            return
        self.links[owned] = Possession(owners, first)
        if owned in self.excluded | self.absorbed:
            return
        held = self.words[first].lower in HOLDING and self.kinds.is_taken_in_hand(owned)
        if self.kinds.lives(owned) and not held:
            return
        around = [n for n in owners if self.kinds.is_landscape(n) or self.kinds.houses(n, owned)]
        if len(around) == len(owners) and not self.kinds.is_part(owned):
            return
        self.owners[owned] = Possession(owners, first)

    def _can_be_had(self, i: int, owned: int) -> bool:
        """Whether the verb or preposition at ``i`` says that someone has the phrase: not in "playing with a ball", nor
        "with a book and a pizza floating nearby"."""
        if self.words[i].lower != "with" or self.kinds.is_body(owned) or self.kinds.is_worn(owned):
            return True
        if i and self.words[i - 1].lower == "," and self.followed_by_participle(owned):
            return False
        return not (self.kinds.is_big(owned) and any(map(self.kinds.lives, self.chain(i))))

    def _owners(self, i: int, owned: int) -> tuple[int, ...]:
        """Whose hat it is in "... wearing a hat" and "... with a hat", for the verb or preposition at ``i``."""
        if meant := self._meant(i):
            return meant
        if one := self._counted_one(i):
            return one
        word = self.words[i]
        wearing = word.lower in WEARING | HOLDING or word.lower == "in"
        bodily = wearing or self.kinds.is_body(owned) or self.kinds.is_worn(owned)
        chain = [n for n in self.chain(i) if not (bodily and n in self.excluded)]
        parsed = self.parsed_owner(i)
        if word.tag in FINITE and (subject := self.subject(i)) is not None:
            return (subject,)
        fitting = [n for n in chain if self.kinds.fits(n, owned, wearing)]
        if wearing:
            fitting = [n for n in fitting if self.kinds.lives(n)] or fitting
        if fitting and self.ending_at.get(i) == fitting[0]:
            big = self.kinds.is_big(fitting[0]) and not (parsed is not None and self.kinds.lives(parsed))
            if self.kinds.lives(fitting[0]) if bodily else big:
                return (fitting[0],)
        if parsed in fitting:
            return (parsed,)
        playing = word.kind == "preposition" and self.verb_head(i) and parsed not in chain
        if fitting and not (playing and self.words[i - 1].kind == "verb"):
            return (fitting[0],)
        if bodily:
            near = [n for n in self.free_in_sentence(i) if self.kinds.fits(n, owned, wearing)]
            alive = [n for n in near if self.kinds.lives(n)]
            after_comma = i > 0 and self.words[i - 1].lower == ","
            persons = [n for n in alive if self.kinds.is_person(n)] if after_comma else []
            if near:
                return ((persons or alive or near)[0],)
        return () if playing or not chain else (chain[0],)

    def _counted_one(self, i: int) -> tuple[int, ...]:
        """The only "1girl" or the like, if the word at ``i`` begins an item of a list of tags: "holding sword"."""
        opens = i == 0 or self.words[i - 1].lower == ","
        one = opens and len(self._counted) == 1 and self.words[i].lower in HOLDING | WEARING
        return tuple(self._counted) if one else ()

    def _covered(self, i: int) -> None:
        """ "Covered in snow", "decorated with red ribbons": a sub-object if it can be one, else an attribute. "Painted
        red" is one in any case."""
        by = i + 1 < len(self.words) and self.words[i + 1].lower in ("in", "with", "by")
        at = i + 1 if by else i
        owned, owner = self.object_of(at), next(iter(self.chain(i)), None)
        if owner is None:
            return
        if owned is None:
            said = self.predicate_words(at + 1)
            if said and self.words[i - 1].kind != "auxiliary":
                self._say(owner, (*range(i, at + 1), *said))
        elif owned in self.excluded or self.kinds.is_in(owned, MATERIALS | COLORS):
            self._absorb(owner, owned, i)
        elif by:
            self._own((owner,), owned, i)

    def _dressed(self, i: int) -> None:
        """ "in a red dress" is worn; "in black" is an attribute."""
        owned = self.object_of(i)
        chain = self.chain(i)
        if owned is None:
            if self._is_colour_alone(i + 1):
                self._clad(i)
        elif self._is_colour(owned):
            self._absorb(chain[0] if chain else None, owned, i)
        elif self.kinds.is_worn(owned) or self._is_cloth(owned, chain) or self._is_unknown_dress(owned, chain):
            self._own(self._owners(i, owned), owned, i)

    def _is_unknown_dress(self, n: int, chain: list[int]) -> bool:
        """Whether it is most likely a garment that the word table does not have: "a baby in a yellow onesie"."""
        return self.kinds.is_unknown(n) and self.phrases[n].determined and any(map(self.kinds.lives, chain))

    def _is_cloth(self, n: int, chain: list[int]) -> bool:
        """Whether it is what someone is clad in: "a jockey in green silk"."""
        material = self.kinds.is_in(n, MATERIALS) and not self.phrases[n].determined
        return material and any(map(self.kinds.lives, chain))

    def _content(self, i: int) -> None:
        """What a sub-object is full of is the same one's: "carrying a quiver of arrows"."""
        holder, owned = self.ending_at.get(i), self.starting_at.get(i + 1)
        if holder in self.owners and owned is not None:
            self._own((holder,), owned, i)

    def _start(self, n: int) -> None:
        """What the phrase itself says of whose it is: "his hat", "whose shirt", "one black", the next of a series, a
        tag."""
        first = self.words[self.phrases[n].start]
        if n in self.excluded or n in self.owners:
            return
        former = self.antecedents.named_before(n, self.again)
        if former is None:
            former = self.antecedents.described_before(n, self.again, self.predicates)
        if former is not None:
            self.again[n] = former
            self.absorbed.add(n)
        elif (pronoun := self.antecedents.partitive(n)) is not None:
            meant = self.antecedents.of(pronoun, self.free_before(self.phrases[n].start))
            if meant:
                self.absorbed.add(n)
                self.again[n] = meant[0]
                for said in self.phrases[n].attributes or (self.phrases[n].noun,):
                    self._say(meant[0], said)
        elif first.tag == "WP$" or first.lower == "whose":
            near = [c for c in self.free_in_sentence(self.phrases[n].start) if self.kinds.fits(c, n, False)]
            alive = [c for c in near if self.kinds.lives(c)]
            self._own(tuple((alive or near)[:1]), n, self.phrases[n].start + 1)
        elif self._apposed(n):
            return
        elif first.lower in POSSESSIVES and (self.kinds.is_body(n) or self.kinds.is_worn(n) or self.kinds.is_part(n)):
            if not self.is_object(n):
                candidates = self.free_before(self.phrases[n].start)
                fitting = [c for c in candidates if self.kinds.fits(c, n, False)]
                self._own(self.antecedents.of(self.phrases[n].start, fitting), n, self.phrases[n].start + 1)
        elif self._is_added(n):
            self._own((n - 1,), n, self.phrases[n].start)
        else:
            if n - 1 in self.links and self.joined(n - 1, n):
                self._continue(n)
            if n not in self.owners and self.is_tag(n):
                self._describe_person(n)
                if n not in self.owners and n not in self.absorbed:
                    self._describe_thing(n)

    def _is_added(self, n: int) -> bool:
        """Whether the phrase stands in parentheses behind another: "a wizard (purple robe)"."""
        before = self.ending_at.get(self.phrases[n].start)
        return (
            before is not None
            and self.words[self.phrases[before].head].weight != self.words[self.phrases[n].head].weight
        )

    def _possess(self, owner: int | None, owned: int | None, first: int) -> None:
        """ "The girl's red hat" is the girl's; of "my neighbour's old car" only the car is in the picture."""
        if owner is None or owned is None:
            return
        opens = self.words[self.phrases[owner].start].lower
        distant = opens in POSSESSIVES | KIN and not self.kinds.is_body(owned)
        if distant and owner not in self.owners:
            self.undrawn.add(owner)
        else:
            self._own((owner,), owned, first)

    def _continue(self, n: int) -> None:
        """Gives the phrase to the owner of the sub-object before it, if it is one more: "wearing a hat and boots", not
        "with a hat and a dog"."""
        owners, first = self.links[n - 1]
        link = self.words[first].lower
        belongs, doubtful = self._is_one_more(n, owners[0], link)
        if doubtful:
            self.doubtful[n] = owners[0]
        if belongs:
            self._own(owners, n, self.phrases[n].start)

    def _is_one_more(self, n: int, owner: int, link: str) -> tuple[bool, bool]:
        """Whether the phrase after a sub-object belongs to the same owner, and whether that is doubtful."""
        kinds, this, after = self.kinds, self.phrases[n - 1], self.phrases[n]
        while owner in self.owners:
            owner = self.owners[owner].owners[0]
        if kinds.lives(n):
            return False, False
        if kinds.is_body(n) and (kinds.lives(owner) or kinds.is_body(n - 1)):
            return True, False
        if kinds.is_worn(n) and (kinds.can_wear(owner) or kinds.is_worn(n - 1)):
            return True, False
        if self.is_spoken_of(n):
            return False, False
        if n - 1 not in self.owners and after.determined and not (kinds.lives(owner) or kinds.is_part(n)):
            return False, False
        alike_in_form = this.determined == after.determined
        listed = self.is_listed(n)
        if kinds.lives(owner):
            if not kinds.is_loose(n):
                return False, False
            if kinds.is_person(owner) or link in HOLDING or not after.determined:
                return listed or link in HOLDING | WEARING, True
            return False, listed
        of_parts = kinds.is_part(n - 1) or kinds.is_body(n - 1)
        if (kinds.is_part(n) and (of_parts or listed)) or (of_parts and listed and kinds.may_be_part(n)):
            return True, not kinds.is_part(n)
        if alike_in_form and (kinds.alike(n - 1, n) or kinds.is_worn(n) or kinds.is_body(n) or kinds.is_part(n)):
            return listed, this.determined
        return listed and not this.determined and not after.determined and not kinds.is_big(n), False

    def _describe_thing(self, n: int) -> None:
        """A tag of a part is said of the thing that the prompt begins with: "vintage camera, leather strap"."""
        first = next((c for c in range(len(self.phrases)) if c not in self.excluded), n)
        between = range(first + 1, n)
        alone = all(c in self.owners or c in self.excluded | self.absorbed for c in between)
        if first < n and alone and self.kinds.is_part(n) and not self.is_spoken_of(n):
            self._own((first,), n, self.phrases[n].start)
            self.doubtful[n] = first

    def _describe_person(self, n: int) -> None:
        """A tag of the body, clothes or a thing in the hands is said of the only person or animal."""
        bodily = self.kinds.is_body(n) or self.kinds.is_worn(n)
        shown = [c for c in range(len(self.phrases)) if c not in self.excluded | self.undrawn]
        living = [c for c in shown if self.kinds.lives(c)]
        if not living and shown and shown[0] < n and self.kinds.is_body(n) and self.kinds.is_unknown(shown[0]):
            living = shown[:1]  # a being that the word table does not have
        counted = [c for c in living if c in self._counted]
        if len(counted or living) != 1 or n in counted or (self.is_spoken_of(n) and not bodily):
            return
        one = (counted or living)[0]
        if counted and (self.kinds.is_person(n) or self.kinds.is_pattern(n)):
            self._absorb(one, n, self.phrases[n].start)
            return
        if not counted and (self.phrases[one].count > 1 or self.phrases[one].start - self.phrases[n].end > 1):
            return
        tagged = bool(counted) and (self.kinds.is_unknown(n) or self.kinds.is_container(n))
        handy = self.kinds.is_handy(n) or tagged
        loose = self.kinds.is_person(one) and self.kinds.is_loose(n) and handy
        if bodily or loose:
            if not bodily:
                self.doubtful[n] = one
            self._own((one,), n, self.phrases[n].start)

    def _describe(self, i: int) -> None:
        """A tag of one adjective ("muscular") is said of the only person that is counted: of "1boy"."""
        if len(self._counted) == 1:
            self._say(self._counted[0], (i,))

    def says_anything_of(self, n: int) -> bool:
        """Whether the phrase has predicates or owns something."""
        return n in self.predicates or any(n in had.owners for had in self.owners.values())
