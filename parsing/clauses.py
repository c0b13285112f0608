"""How noun phrases and the words between them stand to each other: what a word hangs on, what goes on in a series."""

from __future__ import annotations

from typing import NamedTuple

from .kinds import Kinds
from .lexicon import HAVING, SENTENCE_ENDS
from .phrases import NounPhrase
from .tagging import Word

COPULAS = {"be", "become", "look", "seem", "appear", "stay", "remain", "turn"}
RELATIVE_PRONOUNS = {"that", "which", "who"}
SKIPPED_BEFORE_VERB = ("auxiliary", "adverb", "punctuation")


class Possession(NamedTuple):
    """Who has a sub-object, and the index of the first word of "wearing a hat"."""

    owners: tuple[int, ...]
    first: int


class Clauses:
    """The noun phrases of a prompt among its words; phrases are referred to by their index.

    ``owners``: sub-object -> who has it. ``again``: a thing named once more -> where it was named first. ``absorbed``:
    phrases that are said of another ("the car is a Ferrari"). ``undrawn``: whose thing it is, where that one is not in
    the picture ("my neighbour's car"). All grow while the prompt is read from its first word to its last.
    """

    def __init__(self, words: list[Word], phrases: list[NounPhrase], excluded: set[int], kinds: Kinds):
        self.words, self.phrases, self.excluded, self.kinds = words, phrases, excluded, kinds
        self.phrase_of = {i: n for n, phrase in enumerate(phrases) for i in range(phrase.start, phrase.end)}
        self.ending_at = {phrase.end: n for n, phrase in enumerate(phrases)}
        self.starting_at = {phrase.start: n for n, phrase in enumerate(phrases)}
        self.owners: dict[int, Possession] = {}
        self.again: dict[int, int] = {}
        self.absorbed: set[int] = set()
        self.undrawn: set[int] = set()

    def object_of(self, i: int) -> int | None:
        while i + 1 < len(self.words) and self.words[i + 1].kind == "adverb" and i + 1 not in self.phrase_of:
            i += 1
        return self.starting_at.get(i + 1)

    def chain(self, i: int) -> list[int]:
        """The phrase that ends before ``i`` (auxiliaries, relative pronouns and commas aside), then what it hangs on by
        prepositions, nearest first."""
        at = i
        while at > 0 and at not in self.ending_at and self.skippable(at - 1):
            at -= 1
        chain = []
        while at in self.ending_at:
            n = self.ending_at[at]
            chain.append(n)
            if n in self.owners and self.owners[n].owners[0] < n:
                n = self.owners[n].owners[0]
                chain.append(n)
            before = self.phrases[n].start - 1
            if before < 0 or not (self.words[before].kind == "preposition" or self.words[before].lower in HAVING):
                break
            at = before
        return chain

    def skippable(self, i: int) -> bool:
        return i not in self.phrase_of and (
            self.words[i].kind in SKIPPED_BEFORE_VERB or self.words[i].lower in RELATIVE_PRONOUNS
        )

    def parsed_owner(self, i: int) -> int | None:
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

    def verb_head(self, i: int) -> bool:
        head = self.words[self.words[i].head]
        return head.kind == "verb" and head.lower not in HAVING

    def free_in_sentence(self, i: int) -> list[int]:
        """The phrases before word ``i`` in its sentence that belong to no other, nearest first."""
        found = []
        for n in range(len(self.phrases) - 1, -1, -1):
            phrase = self.phrases[n]
            if phrase.end > i:
                continue
            if any(word.lower in SENTENCE_ENDS for word in self.words[phrase.end : i]):
                break
            first = self.again.get(n, n)
            if first not in found and first not in self.owners and first not in self.absorbed | self.undrawn:
                found.append(first)
        return found

    def free_before(self, i: int) -> list[int]:
        """All such phrases of the prompt, nearest first."""
        free = set(range(len(self.phrases))) - set(self.owners) - self.absorbed - self.undrawn - self.excluded
        before = [n for n in reversed(range(len(self.phrases))) if self.phrases[n].end <= i]
        named = dict.fromkeys(self.again.get(n, n) for n in before)
        return [n for n in named if n in free]

    def subject(self, i: int) -> int | None:
        """Of what a copula or finite verb at ``i`` says something."""
        chain = self.chain(i)
        parsed = self.parsed_owner(i)
        if parsed in chain:
            return parsed
        relative = i > 0 and self.words[i - 1].lower in RELATIVE_PRONOUNS
        return (chain[0] if relative else chain[-1]) if chain else None

    def joined(self, n: int, after: int) -> bool:
        """Whether only "and" and commas stand between two phrases."""
        between = self.words[self.phrases[n].end : self.phrases[after].start]
        return bool(between) and all(word.kind == "conjunction" or word.lower == "," for word in between)

    def is_listed(self, n: int) -> bool:
        """Whether "and" stands before the phrase, or in the same series after it."""
        while True:
            between = self.words[self.phrases[n - 1].end : self.phrases[n].start]
            if any(word.kind == "conjunction" for word in between):
                return True
            n += 1
            if n >= len(self.phrases) or not self.joined(n - 1, n):
                return False

    def followed_by_participle(self, n: int) -> bool:
        while n + 1 < len(self.phrases) and self.joined(n, n + 1):
            n += 1
        end = self.phrases[n].end
        return end < len(self.words) and self.words[end].tag == "VBG" and self.words[end].lower not in HAVING

    def is_spoken_of(self, n: int) -> bool:
        """Whether the words after the phrase say what it has or is."""
        end = self.phrases[n].end
        after = self.words[end] if end < len(self.words) else None
        return after is not None and (after.lower in HAVING - {"in"} or after.lemma in COPULAS or after.lower == "that")

    def is_tag(self, n: int) -> bool:
        """Whether the phrase is an item of a list, or stands at the start of the prompt, without an article."""
        start = self.phrases[n].start
        opens = start == 0 or self.words[start - 1].lower in (",", ".", "|")
        return opens and not self.phrases[n].determined

    def is_item(self, i: int) -> bool:
        """Whether the word is all of an item of a list."""
        around = [self.words[at].lower for at in (i - 1, i + 1) if 0 <= at < len(self.words)]
        return all(each in (",", ".", "|") for each in around) and len(self.words) > 1

    def is_object(self, n: int) -> bool:
        """Whether "wearing", "with" or the like stands before the phrase, which then says whose it is."""
        at = self.phrases[n].start - 1
        return at >= 0 and self.words[at].lower in HAVING

    def predicate_words(self, at: int) -> tuple[int, ...]:
        """Indices of the adjectives from ``at`` on, with their adverbs, without the "and" between them."""
        said: list[int] = []
        while at < len(self.words) and at not in self.phrase_of:
            word, after = self.words[at], self.words[at + 1] if at + 1 < len(self.words) else None
            closed = after is None or after.kind in ("punctuation", "conjunction") or after.tag == "VBG"
            leads_on = after is not None and after.kind in ("adjective", "adverb") and at + 1 not in self.phrase_of
            if word.lower in ("not", "n't", "never"):
                return self.after_but(at)
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

    def after_but(self, at: int) -> tuple[int, ...]:
        """What is said after a denial: "is not red but blue"."""
        for i in range(at + 1, len(self.words)):
            if i in self.phrase_of or self.words[i].kind == "punctuation":
                break
            if self.words[i].lower == "but":
                return self.predicate_words(i + 1)
        return ()
