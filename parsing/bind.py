"""Prompt text and tokens in, binding out: the one entrance to this layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from uuid import uuid4

from . import manual, models, syntax, tokens
from .binding import Binding
from .entities import find_entities
from .excluded import Excluded

MANUAL = "entities given by hand"


def bind(
    prompt: syntax.PlainPrompt,
    encoded: Mapping[str, list[list[tokens.Token]]],
    vocabularies: Mapping[str, tokens.Vocabulary],
    described: str,
    excluded: str,
    load_parser: Callable[[], Any],
) -> Binding:
    """Understands a prompt.

    Args:
        prompt: of ``syntax.plain``.
        encoded: ``clip.tokenize(prompt.prompt, return_word_ids=True)``.
        vocabularies: of each encoder in ``encoded``.
        described: entities in the manual syntax; if not empty, the parser is not loaded.
        excluded: list of nouns that become no entities.
        load_parser: returns the spaCy pipeline.

    Raises:
        ValueError: unsupported encoders, words not in the prompt, no parser.
    """
    encoders = tokens.align(encoded, vocabularies, prompt)
    if described.strip():
        parser, found, notes = MANUAL, manual.read_entities(described, prompt.text), []
    else:
        pipeline = load_parser()
        parser = models.label(pipeline)
        found, notes = find_entities(pipeline, prompt, Excluded.parse(excluded))
    return Binding(
        uuid4().hex, prompt.prompt, prompt.text, found, encoders, parser, (*notes, *_token_notes(prompt, encoders))
    )


def _token_notes(prompt: syntax.PlainPrompt, encoders: tuple[tokens.EncoderTokens, ...]) -> list[str]:
    notes = []
    for span in prompt.embeddings:
        name = prompt.text[slice(*span)]
        without = [tokens.ENCODERS[e.encoder] for e in encoders if not e.positions([span])]
        if without:
            notes.append(
                f'"{name}" was not found, or not made for this model, and has no tokens in {" and ".join(without)}.'
            )
    weighted = {}
    for i, weight in enumerate(prompt.weights):
        if weight != 1.0 and not prompt.text[i].isspace():
            weighted.setdefault(round(weight, 4), []).append(i)
    for weight, indices in weighted.items():
        notes.append(f"weight {weight:g}: {', '.join(_runs(prompt.text, indices))}.")
    return notes


def _runs(text: str, indices: list[int]) -> list[str]:
    """The stretches of text at the indices, joined over white space."""
    runs = []
    for i in indices:
        if runs and not text[runs[-1][1] : i].strip():
            runs[-1][1] = i + 1
        else:
            runs.append([i, i + 1])
    return [f'"{text[a:b]}"' for a, b in runs]
