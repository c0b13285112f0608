"""What belongs to which noun phrase: predicates, things worn, held or had, and possessions."""

from __future__ import annotations

from .lexicon import CLOTHES, COLORS, HAVING, HOLDING, LIVING, MADE, MATERIALS, WEARING
from .phrases import NounPhrase
from .tagging import Word

COPULAS = {"be", "become", "look", "seem", "appear", "stay", "remain", "turn"}
RELATIVE_PRONOUNS = {"that", "which", "who"}
FINITE = ("VB", "VBD", "VBP", "VBZ")
SKIPPED_BEFORE_VERB = ("auxiliary", "adverb", "punctuation")


class Relations:
    """Found once, for all noun phrases of a prompt; phrases are referred to by their index.

    ``predicates``: phrase -> attributes said of it elsewhere, as word indices. ``owners``: sub-object -> (phrase it
    belongs to, index of the first word of "wearing a hat"). ``absorbed``: phrases that are said of another ("the car
    is a Ferrari").
    """

    def __init__(self, words: list[Word], phrases: list[NounPhrase], excluded: set[int]):
        self.words, self.phrases, self.excluded = words, phrases, excluded
        self.phrase_of = {i: n for n, phrase in enumerate(phrases) for i in range(phrase.start, phrase.end)}
        self.ending_at = {phrase.end: n for n, phrase in enumerate(phrases)}
        self.starting_at = {phrase.start: n for n, phrase in enumerate(phrases)}
        self.predicates: dict[int, list[tuple[int, ...]]] = {}
        self.owners: dict[int, tuple[int, int]] = {}
        self.absorbed: set[int] = set()
        for i, word in enumerate(words):
            if i in self.phrase_of:
                continue
            if word.kind == "possessive":
                self._own(self.ending_at.get(i), self.starting_at.get(i + 1), i + 1)
            elif word.lower in HAVING - {"in"}:
                finite = word.tag in FINITE
                self._own(self._subject(i) if finite else self._owner(i), self._object(i), i)
            elif word.lower == "in":
                self._dressed(i)
            elif word.lower == "of":
                self._made_of(i)
            elif word.lemma in COPULAS and word.kind in ("auxiliary", "verb"):
                self._predicate(i)
        for n in range(len(phrases) - 1):
            if n in self.owners and self._continues(n):
                self.owners[n + 1] = (self.owners[n][0], phrases[n + 1].start)

    def owner(self, n: int) -> int | None:
        """The phrase at the top of the chain of owners; None if the phrase belongs to nothing."""
        top = n
        while top in self.owners:
            top = self.owners[top][0]
        return top if top != n else None

    def _own(self, owner: int | None, owned: int | None, first: int) -> None:
        """Records a possession; a living thing is no sub-object ("a man with a dog"), and an excluded noun owns
        nothing."""
        if owner is None or owned is None or owner >= owned or owner in self.excluded or owned in self.excluded:
            return
        if not self._lives(owned):
            self.owners[owned] = (owner, first)

    def _is(self, n: int, nouns: frozenset[str]) -> bool:
        head = self.words[self.phrases[n].head]
        return head.lower in nouns or head.lemma in nouns

    def _lives(self, n: int) -> bool:
        """A teddy bear does not."""
        return self._is(n, LIVING) and len(self.phrases[n].noun) == 1

    def _object(self, i: int) -> int | None:
        while i + 1 < len(self.words) and self.words[i + 1].kind == "adverb" and i + 1 not in self.phrase_of:
            i += 1
        return self.starting_at.get(i + 1)

    def _owner(self, i: int) -> int | None:
        """Whose hat it is in "... wearing a hat" and "... with a hat", for the verb or preposition at ``i``.

        The phrase just before it, or one that phrase hangs on ("a cat on a mat with a hat") if the dependency parse
        says so.
        """
        chain = self._chain(i)
        parsed = self._parsed_owner(i)
        if parsed in chain or not chain:
            return parsed
        after_verb = self.words[i].kind == "preposition" and self._verb_head(i)
        return None if after_verb else chain[0]

    def _subject(self, i: int) -> int | None:
        """Of what a copula or finite verb at ``i`` says something."""
        chain = self._chain(i)
        parsed = self._parsed_owner(i)
        if parsed in chain:
            return parsed
        relative = i > 0 and self.words[i - 1].lower in RELATIVE_PRONOUNS
        return (chain[0] if relative else chain[-1]) if chain else None

    def _chain(self, i: int) -> list[int]:
        """The phrase that ends before ``i`` (auxiliaries, relative pronouns and commas aside), then what it hangs on by
        prepositions, nearest first."""
        at = i
        while at > 0 and at not in self.ending_at and self._skippable(at - 1):
            at -= 1
        chain = []
        while at in self.ending_at:
            n = self.ending_at[at]
            chain.append(n)
            before = self.phrases[n].start - 1
            if before < 0 or not (self.words[before].kind == "preposition" or self.words[before].lower in HAVING):
                break
            at = before
        return chain

    def _skippable(self, i: int) -> bool:
        return i not in self.phrase_of and (
            self.words[i].kind in SKIPPED_BEFORE_VERB or self.words[i].lower in RELATIVE_PRONOUNS
        )

    def _parsed_owner(self, i: int) -> int | None:
        """What the dependency parse says: the noun the word hangs on, or the subject of the verb that it is or hangs
        on."""
        head = self.words[i].head
        if head < i and head in self.phrase_of:
            return self.phrase_of[head]
        for verb in (i, head):
            for k, word in enumerate(self.words[:i]):
                if word.head == verb and word.relation in ("nsubj", "nsubjpass") and k in self.phrase_of:
                    return self.phrase_of[k]
        return None

    def _verb_head(self, i: int) -> bool:
        head = self.words[self.words[i].head]
        return head.kind == "verb" and head.lower not in HAVING

    def _dressed(self, i: int) -> None:
        """ "in a red dress" is worn; "in black" is an attribute."""
        owned = self._object(i)
        if owned is None:
            if i + 1 < len(self.words) and self.words[i + 1].lower in COLORS and (owner := self._owner(i)) is not None:
                self.predicates.setdefault(owner, []).append((i, i + 1))
        elif self._is(owned, CLOTHES):
            self._own(self._owner(i), owned, i)
        elif self._is(owned, COLORS) and self.phrases[owned].noun == (i + 1,):
            self._absorb(self._owner(i), owned, i)

    def _made_of(self, i: int) -> None:
        """ "made of wood" and "of gold" are attributes."""
        owned = self.starting_at.get(i + 1)
        made = i > 0 and self.words[i - 1].lower in MADE
        if owned is None or self.phrases[owned].determined or not (made or self._is(owned, MATERIALS)):
            return
        owner = self._owner(i - 1) if made else self.ending_at.get(i)
        self._absorb(owner, owned, i - 1 if made else i)

    def _absorb(self, owner: int | None, absorbed: int, first: int) -> None:
        """Turns a phrase into an attribute of another: the words from ``first`` to its end."""
        if owner is None or owner in self.excluded or owner >= absorbed:
            return
        self.absorbed.add(absorbed)
        self.predicates.setdefault(owner, []).append(tuple(range(first, self.phrases[absorbed].end)))

    def _predicate(self, i: int) -> None:
        """ "is red", "is painted red and white", "is a Ferrari"."""
        subject = self._subject(i)
        if subject is None or subject in self.excluded:
            return
        nominal = self.starting_at.get(i + 1)
        if nominal is not None:
            if self.words[i].lemma in ("be", "become") and nominal not in self.excluded and not self._lives(nominal):
                phrase = self.phrases[nominal]
                self._absorb(subject, nominal, min(i for words in (*phrase.attributes, phrase.noun) for i in words))
            return
        said = self._predicate_words(i + 1)
        if said:
            self.predicates.setdefault(subject, []).append(said)

    def _predicate_words(self, at: int) -> tuple[int, ...]:
        """Indices of the adjectives from ``at`` on, with their adverbs, without the "and" between them."""
        said: list[int] = []
        while at < len(self.words) and at not in self.phrase_of:
            word, after = self.words[at], self.words[at + 1] if at + 1 < len(self.words) else None
            closed = after is None or after.kind in ("punctuation", "conjunction")
            leads_on = after is not None and after.kind in ("adjective", "adverb") and at + 1 not in self.phrase_of
            if word.lower in ("not", "n't", "never"):
                return ()
            if word.kind == "adjective":
                said.append(at)
            elif word.kind == "adverb" and leads_on:
                said.append(at)
            elif word.tag in ("VBN", "VBD") and word.lower not in HAVING and (closed or leads_on):
                said += [at] if closed else []
            elif not (said and leads_on and (word.kind == "conjunction" or word.lower == ",")):
                break
            at += 1
        following = self.words[at].lower if at < len(self.words) else ""
        return () if following in ("of", "to", "than") else tuple(said)

    def _continues(self, n: int) -> bool:
        """Whether the phrase after sub-object ``n`` is one more: "wearing a hat and boots", not "with a hat and a
        dog"."""
        this, after, owner = self.phrases[n], self.phrases[n + 1], self.owners[n][0]
        between = self.words[this.end : after.start]
        if n + 1 in self.owners or n + 1 in self.absorbed or n + 1 in self.excluded or not between:
            return False
        if any(word.kind not in ("conjunction", "punctuation") for word in between):
            return False
        if self._lives(n + 1) or self.says_anything_of(n + 1):
            return False
        link = self.words[self.owners[n][1]].lower
        if self._is(n, CLOTHES) and self._is(n + 1, CLOTHES) and link not in HOLDING:
            return True
        if not any(word.kind == "conjunction" for word in between):
            return False
        if not after.determined:
            return not this.determined or self.words[this.start].tag == "PRP$" or self._lives(owner)
        return link not in WEARING and self._lives(owner) and self.phrase_of.get(self.words[after.head].head) == n

    def says_anything_of(self, n: int) -> bool:
        """Whether the phrase has predicates or owns something."""
        return n in self.predicates or any(owner == n for owner, _ in self.owners.values())
