"""Prompts to train with: encoded as a sampler gets them, and what is asked of their pictures."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from ...parsing.bind import bind
from ...parsing.encoding import encode, tokenized
from ...parsing.excluded import DEFAULT_EXCLUDED
from ...parsing.syntax import plain
from ..prepare import vector_of
from .asked import Asked, asked

LISTED = 5
"""At most so many prompts are named in a note."""


@dataclass(frozen=True, eq=False)
class Prompt:
    """A prompt's ``text`` without weights, its context ``(T, D)``, for SDXL the vector ``(Y,)`` of pooled text and
    sizes, and the entities that are looked for in its pictures. Tensors are ordinary ones on the CPU."""

    text: str
    context: torch.Tensor
    vector: torch.Tensor | None
    asked: tuple[Asked, ...] = ()


class Prompts(NamedTuple):
    """Prompts in their order, the empty one, and a line for whatever of them has no effect."""

    prompts: tuple[Prompt, ...]
    empty: Prompt
    notes: tuple[str, ...]

    @property
    def digest(self) -> str:
        """Tells the prompts, and what is asked of them."""
        told = [(each.text, [(one.entity.name, one.rows) for one in each.asked]) for each in self.prompts]
        return hashlib.sha256(repr(told).encode()).hexdigest()[:16]


def lines_of(text: str) -> list[str]:
    """Prompts, one a line.

    Raises:
        ValueError: there is none.
    """
    lines = [line.strip() for line in text.splitlines()]
    if not any(lines):
        raise ValueError("There are no prompts to train with. Write some, one a line.")
    return [line for line in lines if line]


def described(entities: str, count: int) -> list[str]:
    """Entities by hand for each of ``count`` prompts, one prompt a line; those of an empty line are parsed.

    Raises:
        ValueError: there are more lines than prompts.
    """
    lines = entities.rstrip().splitlines()
    if len(lines) > count:
        raise ValueError(
            f"There are {len(lines)} lines of entities for {count} prompts. Give each prompt its line, in the same "
            "order; leave a line empty to have its prompt parsed."
        )
    return [*lines, *[""] * (count - len(lines))]


def read(
    texts: Sequence[str],
    model,
    clip,
    size: int,
    entities: Sequence[str] | None,
    load_parser: Callable[[], Any],
    step: Callable[[int], None] = lambda number: None,
) -> Prompts:
    """Encode prompts as CLIP Text Encode does, and bind them as Bind Prompt does.

    As in the published code, only the first 75 tokens of a prompt are taken.

    Args:
        size: side of the pictures, in pixels; SDXL is told.
        entities: those of each prompt in the manual syntax, or empty to have it parsed; None if nothing will be asked.
        load_parser: returns the spaCy pipeline; called if there is a prompt to parse.
        step: is called before each prompt, with its number from 1.

    Raises:
        ValueError: a text encoder or a prompt that cannot be bound, or no parser; the message names the prompt.
    """
    prompts, cut = [], []
    for number, text in enumerate(texts, 1):
        step(number)
        tokens, vocabularies = tokenized(clip, text)
        if any(len(chunks) > 1 for chunks in tokens.values()):
            cut.append(text)
        try:
            found = plain(text)
            wanted = ()
            if entities is not None:
                wanted = asked(bind(found, tokens, vocabularies, entities[number - 1], DEFAULT_EXCLUDED, load_parser))
        except ValueError as error:
            raise ValueError(f'Prompt {number}, "{text}": {error}') from error
        prompts.append(_encoded(model, clip, found.text, tokens, size, wanted))
    empty = _encoded(model, clip, "", tokenized(clip, "")[0], size, ())
    notes = []
    if cut:
        notes.append(f"Longer than 75 tokens, the rest is left out: {_listed(cut)}")
    unasked = [each.text for each in prompts if not each.asked]
    if entities is not None and unasked:
        notes.append(f"No noun with an attribute, so no attention is held: {_listed(unasked)}")
    return Prompts(tuple(prompts), empty, tuple(notes))


def _encoded(model, clip, text: str, tokens, size: int, wanted: tuple[Asked, ...]) -> Prompt:
    """Of a prompt's first chunk of tokens; what is asked of the others is left out."""
    with torch.inference_mode():
        context, options = encode(clip, {encoder: chunks[:1] for encoder, chunks in tokens.items()})[0]
        vector = vector_of(model, options.get("pooled_output"), (size, size), size)
    there = tuple(each for each in wanted if max(each.rows) < context.shape[1])
    return Prompt(text, _ordinary(context[0]), None if vector is None else _ordinary(vector[0]), there)


def _ordinary(tensor: torch.Tensor) -> torch.Tensor:
    """A copy on the CPU that a backward pass can have; those of inference mode cannot be."""
    with torch.inference_mode(False):
        return tensor.detach().cpu().float().clone()


def _listed(texts: Sequence[str]) -> str:
    more = f" and {len(texts) - LISTED} more" if len(texts) > LISTED else ""
    return f"{len(texts)} prompts ({'; '.join(texts[:LISTED])}{more})"
