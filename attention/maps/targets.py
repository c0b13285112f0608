"""What is recorded: entities, their parts, or chosen words, each as a set of token positions."""

from __future__ import annotations

import re
from typing import NamedTuple

from ...parsing.binding import Binding, Phrase, Span

ENTITIES, PARTS, WORDS = WHAT = ("entities", "entities and attributes", "words")
SPECIAL_WORDS = {"<start>": "start", "<end>": "end", "<padding>": "padding"}


class Target(NamedTuple):
    """One map to record: its label, the entity it belongs to ("" for none), and its token positions.

    The map is the mean over the tokens, or with ``total`` their sum.
    """

    label: str
    entity: str
    positions: tuple[int, ...]
    total: bool = False

    @property
    def weight(self) -> float:
        return 1.0 if self.total else 1 / len(self.positions)


def targets_of(binding: Binding, what: str, words: str) -> tuple[Target, ...]:
    """The maps asked for: ``what`` is one of ``WHAT``; ``words`` are separated by commas.

    Raises:
        ValueError: there is nothing to record, a word is not in the prompt, or something has no tokens.
    """
    if what == WORDS:
        targets = [_word(binding, word.strip()) for word in words.split(",") if word.strip()]
        if not targets:
            raise ValueError(f'There are no words to record. Write words of the prompt, which is: "{binding.text}".')
    elif what == ENTITIES:
        targets = [Target(entity.name, entity.name, binding.group(entity)) for entity in binding.entities]
    else:
        targets = [
            Target(
                entity.name if phrase is entity.noun else f"{entity.name}: {phrase.text}",
                entity.name,
                binding.positions([phrase]),
            )
            for entity in binding.entities
            for phrase in entity.phrases
        ]
    if not targets:
        raise ValueError(
            f'The binding has no entities to record; its prompt is: "{binding.text}". Name entities in the node the '
            "BINDING comes from, or set record to words and write words of the prompt."
        )
    missing = [target.label for target in targets if not target.positions]
    if missing:
        raise ValueError(f"There are no tokens in the conditioning, and so no attention, for: {', '.join(missing)}.")
    return tuple(targets)


def _word(binding: Binding, word: str) -> Target:
    """A word or phrase wherever it stands in the prompt, or one of the rows of the encoder that are no word."""
    kind = SPECIAL_WORDS.get(word.lower())
    if kind is not None:
        rows = {i for tokens in binding.encoders for i in tokens.of_kind(kind) if i < binding.length}
        return Target(word, "", tuple(sorted(rows)), total=True)
    found = re.finditer(rf"(?<!\w){re.escape(word)}(?!\w)", binding.text, re.IGNORECASE)
    spans = tuple(Span(*match.span()) for match in found)
    if not spans:
        raise ValueError(f'"{word}" is not in the prompt. The prompt is: "{binding.text}".')
    positions = binding.positions([Phrase(word, spans)])
    entity = next((entity.name for entity in binding.entities if set(positions) <= set(binding.group(entity))), "")
    return Target(word, entity, positions)
