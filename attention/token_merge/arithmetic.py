"""Token arithmetic: concepts added to an entity, taken off it, or put in its place, as sums of phrases.

ToMe (Hu et al. 2024, arXiv 2411.07132), section 3, finds the rows of CLIP's text encoder nearly additive: "queen"
minus "king" is "woman" minus "man". Each phrase is encoded alone. The encoder is causal, so that the last row of its
words means the whole phrase; the end and padding rows behind hold it too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from ...parsing.binding import Binding, EncoderTokens, Entity
from .composite import Composite, composite_of
from .end_tokens import EndRows, end_rows


class Encoded(NamedTuple):
    """A phrase encoded alone: its tokens in every encoder, its rows ``(1, T, D)``, and its pooled vector ``(1, P)``
    where there is one."""

    phrase: str
    encoders: tuple[EncoderTokens, ...]
    rows: torch.Tensor
    pooled: torch.Tensor | None


Weighted = Sequence[tuple[float, Encoded]]
"""Phrases, each with the number it counts with."""


def place_of(binding: Binding, entity: Entity, width: int) -> Composite:
    """Where the sum goes, and which rows it empties: the entity's own, but no other entity's noun ("a cat with a dog").

    Raises:
        ValueError: the entity's noun has no row in an encoder's sequence.
    """
    place = composite_of(binding, entity, width)
    nouns = [span for other in binding.entities if other is not entity for span in other.noun.spans]
    parts = [
        part._replace(rest=tuple(row for row in part.rest if row not in tokens.positions(nouns)))
        for part, tokens in zip(place.parts, binding.encoders, strict=True)
    ]
    return Composite(entity, tuple(parts))


def total_row(place: Composite, phrases: Weighted) -> torch.Tensor:
    """``(D,)``: the weighted sum of the phrases' last rows.

    Raises:
        ValueError: a phrase has no token in an encoder, or is longer than what is read together.
    """
    return torch.cat(
        [
            sum(weight * each.rows[0, _last(each, number), part.columns] for weight, each in phrases)
            for number, part in enumerate(place.parts)
        ]
    )


def _last(phrase: Encoded, number: int) -> int:
    """The row of a phrase's last token in an encoder."""
    tokens = phrase.encoders[number]
    words = tokens.of_kind("text", "embedding")
    if not words:
        raise ValueError(
            f'In the expression, "{phrase.phrase}" has no token for text encoder {tokens.encoder}. Write words that it '
            "can read, or an embedding that was made for this model."
        )
    if tokens.chunks > 1:
        raise ValueError(
            f'In the expression, "{phrase.phrase}" is too long: a phrase may have '
            f"{tokens.length // tokens.chunks - 2} tokens, which the text encoder reads together. Shorten it."
        )
    return words[-1]


def replaced(rows: torch.Tensor, place: Composite, total: torch.Tensor) -> torch.Tensor:
    """The conditioning ``(B, T, D)`` with ``total (D,)`` in the first row of the entity's noun, and its others 0."""
    result = rows.clone()
    for part in place.parts:
        result[:, [*part.noun, *part.rest], part.columns] = 0
        result[:, part.noun[0], part.columns] = total[part.columns].to(rows)
    return result


def end_changes(binding: Binding, place: Composite, phrases: Weighted) -> tuple[EndRows, ...]:
    """What is added to the end and padding rows of the entity's chunk: the weighted sum of the rows that the phrases
    have there. Those of other chunks know nothing of the entity."""
    columns = [part.columns for part in place.parts]
    ends = [end_rows(binding.encoders, each.encoders, columns, each.rows, binding.length) for _, each in phrases]
    changes = []
    for number, (tokens, part) in enumerate(zip(binding.encoders, place.parts, strict=True)):
        chunk, rows = tokens.length // tokens.chunks, ends[0][number].rows
        own = [at for at, row in enumerate(rows) if row // chunk == part.noun[0] // chunk]
        values = sum(weight * of[number].values[own] for (weight, _), of in zip(phrases, ends, strict=True))
        changes.append(EndRows(part.columns, tuple(rows[at] for at in own), values))
    return tuple(changes)


def added(rows: torch.Tensor, changes: Sequence[EndRows]) -> torch.Tensor:
    """The conditioning ``(B, T, D)`` with these values added to its rows."""
    result = rows.clone()
    for change in changes:
        result[:, list(change.rows), change.columns] += change.values.to(rows)
    return result


def pooled_change(binding: Binding, place: Composite, phrases: Weighted) -> torch.Tensor | None:
    """``(1, P)``: what is added to the pooled vector, the last encoder's end token of the first chunk. None if the
    entity is in another chunk, or the encoder pools nothing."""
    tokens, part = binding.encoders[-1], place.parts[-1]
    if part.noun[0] >= tokens.length // tokens.chunks or any(each.pooled is None for _, each in phrases):
        return None
    return sum(weight * each.pooled for weight, each in phrases)
