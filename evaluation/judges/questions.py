"""What a judge is asked: yes-or-no questions made from a binding, one for each thing that could be right or wrong.

They can be written down and edited, one a line: ``cat: is the cat black?``; a leading ``not`` says that the answer
should be no.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from ...parsing.binding import Binding, Entity, Phrase, SubObject
from ...parsing.lexicon import NUMBERS
from ...parsing.picture_tags import SUBJECT_WORD

EXISTENCE, COUNT, ATTRIBUTE, PART, LEAK = "existence", "count", "attribute", "part", "leak"
CHUNK, PROMPT, OWN = "chunk", "prompt", "own"
"""Kinds of questions: whether an entity is there, as many as asked for, with its attributes, with what it wears or has,
with what belongs to another; a noun chunk of T2I-CompBench, the prompt as a caption, one that the user wrote."""

WHOLE_PICTURE = "picture"
"""The entity of a question that names none."""

_LINE = re.compile(r"(?P<no>not\s+)?(?:(?P<entity>[^:?]*):)?(?P<text>.*)", re.IGNORECASE)
_NUMBER_WORDS = {number: word for word, number in NUMBERS.items() if word != "dozen"}


@dataclass(frozen=True)
class Question:
    """``wanted`` is whether the answer should be yes; ``caption`` the same as a phrase, for judges that compare
    captions."""

    text: str
    entity: str
    kind: str
    wanted: bool = True
    caption: str = ""


def made_from(binding: Binding) -> tuple[Question, ...]:
    """The questions of a binding, entity by entity.

    Entities that share a noun are asked for with their attributes ("is there a red dog?"), which are then not asked
    again. A leak question asks for each attribute, and each thing worn or had, whether another noun's entity has it
    that should not.

    Raises:
        ValueError: the binding has no entity.
    """
    if not binding.entities:
        raise ValueError(
            f'The prompt "{binding.text}" has no entities that could be asked for. Write into "questions" yourself '
            "what to ask, one question a line."
        )
    nouns = Counter(entity.noun.text.lower() for entity in binding.entities)
    made = []
    for entity in binding.entities:
        shared = nouns[entity.noun.text.lower()] > 1
        attributes = entity.attributes if shared else ()
        named = replace(entity, noun=_spoken(entity.noun), attributes=attributes, sub_objects=())
        made += _about(entity, named, not shared)
        for other in binding.entities:
            if other.noun.text.lower() != entity.noun.text.lower():
                made += _leaks(entity, named, other)
    return tuple(dict.fromkeys(made))


def _spoken(noun: Phrase) -> Phrase:
    """A noun as it stands in a sentence: "1girl" as "girl"."""
    is_tag = SUBJECT_WORD.fullmatch(noun.text)
    return replace(noun, text=noun.text.lstrip("0123456789+")) if is_tag else noun


def _about(entity: Entity, named: Entity, with_attributes: bool) -> Iterator[Question]:
    phrase = named.anchor_phrase
    if entity.count == 1:
        yield Question(f"{_verb(named)} there {phrase}?", entity.name, EXISTENCE, True, phrase)
    else:
        words = _without_article(named)
        counted = f"{_NUMBER_WORDS.get(entity.count, entity.count)} {words}"
        yield Question(f"are there any {words}?", entity.name, EXISTENCE, True, words)
        yield Question(f"are there exactly {counted}?", entity.name, COUNT, True, counted)
    for attribute in entity.attributes if with_attributes else ():
        yield _with_attribute(named, attribute, ATTRIBUTE)
    for sub in entity.sub_objects:
        yield _with_part(named, sub, PART)


def _leaks(entity: Entity, named: Entity, other: Entity) -> Iterator[Question]:
    """Whether the entity has what belongs to the other."""
    own = {phrase.text.lower() for phrase in (*entity.attributes, *(sub.noun for sub in entity.sub_objects))}
    for attribute in other.attributes:
        if attribute.text.lower() not in own:
            yield _with_attribute(named, attribute, LEAK)
    for sub in other.sub_objects:
        if sub.noun.text.lower() not in own:
            yield _with_part(named, sub, LEAK)


def _with_attribute(named: Entity, attribute: Phrase, kind: str) -> Question:
    caption = replace(named, attributes=(*named.attributes, attribute)).anchor_phrase
    text = f"{_verb(named)} the {_without_article(named)} {attribute.text}?"
    return Question(text, named.name, kind, kind != LEAK, caption)


def _with_part(named: Entity, sub: SubObject, kind: str) -> Question:
    caption = replace(named, sub_objects=(sub,)).anchor_phrase
    having = caption.removeprefix(named.anchor_phrase).strip()
    words = _without_article(named)
    if having.startswith("with "):
        text = f"{'do' if _plural(named) else 'does'} the {words} have {having.removeprefix('with ')}?"
    else:
        text = f"{_verb(named)} the {words} {having}?"
    return Question(text, named.name, kind, kind != LEAK, caption)


def _without_article(entity: Entity) -> str:
    first, _, rest = entity.anchor_phrase.partition(" ")
    return rest if first in ("a", "an", str(entity.count)) else entity.anchor_phrase


def _plural(entity: Entity) -> bool:
    return entity.anchor_phrase.partition(" ")[0] not in ("a", "an")


def _verb(entity: Entity) -> str:
    return "are" if _plural(entity) else "is"


def written(questions: Iterable[Question]) -> str:
    """The questions as text, one a line."""
    return "\n".join(f"{'' if each.wanted else 'not '}{each.entity}: {each.text}" for each in questions)


def read(text: str, made: Iterable[Question] = ()) -> tuple[Question, ...]:
    """The questions of a text; those that are among ``made`` keep their kind and caption.

    Raises:
        ValueError: a line has no question.
    """
    known = {written([question]).lower(): question for question in made}
    questions = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        parts = _LINE.fullmatch(line.strip())
        entity, asked = (parts["entity"] or WHOLE_PICTURE).strip(), parts["text"].strip()
        if not asked:
            raise ValueError(
                f'Line {number} of the questions, "{line.strip()}", asks nothing. Write one question a line, such as '
                '"cat: is there a cat?"; "not dog: is the dog black?" where the answer should be no.'
            )
        own = Question(asked, entity, LEAK if parts["no"] else OWN, not parts["no"], asked)
        questions.append(known.get(written([own]).lower(), own))
    return tuple(questions)
