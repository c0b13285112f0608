"""Right answers for prompts, and what is wrong with the entities that were found.

An answer lists the entities with the words of what each has: "cat: white paws, black tail | dog". One in brackets may
be an entity or not. Order within a group, and how its words are cut into attributes and sub-objects, are not asked.
"""

import re

UNTOLD = frozenset("a an the with in of and wearing holding has have is are made full one filled".split())


def words_of(text):
    return set(re.findall(r"[a-z0-9']+", text.lower())) - UNTOLD


def read_answer(answer):
    """(noun, words it has, whether it must be found) for each entity of an answer."""
    for entry in filter(None, map(str.strip, answer.split("|"))):
        noun, _, has = entry.strip("()").partition(":")
        yield noun, words_of(has), not entry.startswith("(")


def faults(entities, answer):
    """What is wrong with the entities, in words."""
    left = [(e.noun.text.lower(), words_of(" ".join(phrase.text for phrase in e.phrases[1:]))) for e in entities]
    expected = list(read_answer(answer))
    found = []
    for noun, needed, required in expected:
        match = [one for one in left if noun in (one[0], one[0].split()[-1])]
        if not match:
            found += [f"{noun} is no entity"] if required else []
            continue
        group = max(match, key=lambda one: len(needed & one[1]))
        left.remove(group)
        own = words_of(group[0])
        others = set().union(*(has for other, has, _ in expected if other != noun))
        found += [f"{noun} lacks {word}" for word in sorted(needed - group[1] - own)] if required else []
        found += [f"{noun} has {word}" for word in sorted((group[1] & others) - needed)] if required else []
    return found + [f"{noun} is an entity" for noun, _ in left]
