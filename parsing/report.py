"""A binding as text for people and as JSON for programs."""

from __future__ import annotations

import json
from typing import Any

from . import parts
from .binding import Binding, EncoderTokens, Entity, Phrase, SubObject
from .manual import write_phrase, write_sub_object
from .tokens import ENCODERS


def to_json(binding: Binding) -> str:
    """Everything of the binding but masks and subjects. ``rows`` are 0-based indices into each encoder's sequence,
    ``said`` is how the manual syntax says a phrase or word, and ``doubt`` what the parser was not certain of."""
    return json.dumps(
        {
            "key": binding.key,
            "prompt": binding.prompt,
            "text": binding.text,
            "parser": binding.parser,
            "notes": list(binding.notes),
            "entities": [_entity(binding, entity) for entity in binding.entities],
            "words": [_word(binding, word) for word in parts.words(binding.text)],
            "encoders": {tokens.encoder: _encoder(tokens) for tokens in binding.encoders},
        },
        ensure_ascii=False,
    )


def summary(binding: Binding) -> str:
    """What was understood, in plain words: entities and what belongs to them, their tokens, and what was left out."""
    lines = [line for number, entity in enumerate(binding.entities, 1) for line in _described(binding, entity, number)]
    for tokens in binding.encoders:
        count, ends = len(tokens.of_kind("text", "embedding")), ", ".join(map(str, tokens.of_kind("end")))
        chunks = f" in {tokens.chunks} chunks" if tokens.chunks > 1 else ""
        lines.append(
            f"{ENCODERS[tokens.encoder]}: {count} tokens{chunks}, end token at {ends} of {tokens.length} rows."
        )
    lines.append(f"Read by: {binding.parser}.")
    return "\n".join((*lines, *(f"Note: {note}" for note in binding.notes)))


def _described(binding: Binding, entity: Entity, number: int) -> list[str]:
    parts = [f"{number}. {entity.name}"]
    if entity.count > 1:
        parts.append(f"{entity.count} of them")
    parts += [phrase.text for phrase in (*entity.attributes, *(sub.phrase for sub in entity.sub_objects))]
    lines = [" \u00b7 ".join(parts)]
    for tokens in binding.encoders:
        named = (f"{i} {tokens.rows[i].piece}" for i in tokens.positions(s for p in entity.phrases for s in p.spans))
        lines.append(f"   {ENCODERS[tokens.encoder]}: {', '.join(named) or 'no tokens'}")
    return lines


def _entity(binding: Binding, entity: Entity) -> dict[str, Any]:
    return {
        "name": entity.name,
        "count": entity.count,
        "noun": _phrase(binding, entity.noun),
        "attributes": [_phrase(binding, phrase) for phrase in entity.attributes],
        "sub_objects": [_sub_object(binding, sub) for sub in entity.sub_objects],
        "anchor_phrase": entity.anchor_phrase,
        "doubt": entity.doubt,
    }


def _sub_object(binding: Binding, sub: SubObject) -> dict[str, Any]:
    """``attributes`` are those of its noun, for whom makes it an entity of its own."""
    return {
        "phrase": {**_phrase(binding, sub.phrase), "said": write_sub_object(sub, binding.text)},
        "noun": _phrase(binding, sub.noun),
        "attributes": [_phrase(binding, phrase) for phrase in parts.attributes(sub, binding.text)],
        "doubt": sub.doubt,
    }


def _phrase(binding: Binding, phrase: Phrase) -> dict[str, Any]:
    rows = {tokens.encoder: tokens.positions(phrase.spans) for tokens in binding.encoders}
    return {"text": phrase.text, "spans": phrase.spans, "rows": rows, "said": write_phrase(phrase, binding.text)}


def _word(binding: Binding, word: Phrase) -> dict[str, Any]:
    return {"text": word.text, "spans": word.spans, "said": write_phrase(word, binding.text)}


def _encoder(tokens: EncoderTokens) -> dict[str, Any]:
    rows = [
        {"kind": row.kind, "piece": row.piece, "span": row.span, "weight": row.weight}
        for row in tokens.rows
        if row.kind in ("text", "embedding")
    ]
    positions = {kind: tokens.of_kind(kind) for kind in ("start", "text", "embedding", "end", "padding")}
    return {"length": tokens.length, "chunks": tokens.chunks, **positions, "tokens": rows}
