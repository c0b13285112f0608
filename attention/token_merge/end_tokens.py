"""End-token substitution: ToMe (Hu et al. 2024, arXiv 2411.07132), section 3.2.

The text encoder is causal, so its end token and all padding behind it hold the whole sentence, with every attribute.
They are replaced by those of a prompt without attributes. Other than the published code, which counts words, this goes
by the kind of each row, in every chunk of a long prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from ...parsing.binding import EncoderTokens

KINDS = ("end", "padding")


class EndRows(NamedTuple):
    """Rows of one encoder's columns and what they become: ``values`` are ``(rows, width of the columns)``."""

    columns: slice
    rows: tuple[int, ...]
    values: torch.Tensor


def sources(tokens: EncoderTokens, simplified: EncoderTokens, length: int, available: int) -> dict[int, int]:
    """For each end and padding row of a prompt, below ``length``, the row of the simplified prompt, below
    ``available``, that replaces it.

    It is the row at the same place of the chunk if that is an end or padding row too, as in the published code, else
    the chunk's end token. A chunk that the simplified prompt does not have takes its last one.
    """
    chunk = tokens.length // tokens.chunks
    ends = {row for row in simplified.of_kind(*KINDS) if row < available}
    found = {}
    for row in tokens.of_kind(*KINDS):
        number, place = divmod(row, chunk)
        start = min(number, available // chunk - 1) * chunk
        same = start + place
        found[row] = same if same in ends else min(end for end in ends if end >= start)
    return {row: source for row, source in found.items() if row < length}


def end_rows(
    original: Sequence[EncoderTokens],
    simplified: Sequence[EncoderTokens],
    columns: Sequence[slice],
    values: torch.Tensor,
    length: int,
) -> tuple[EndRows, ...]:
    """What replaces the end and padding rows, for every encoder.

    Args:
        values: the encoded simplified prompt ``(1, T', D)``.
        length: rows of the prompt's own conditioning.
    """
    found = []
    for tokens, short, part in zip(original, simplified, columns, strict=True):
        of_rows = sources(tokens, short, length, values.shape[1])
        found.append(EndRows(part, tuple(of_rows), values[0, list(of_rows.values()), part].clone()))
    return tuple(found)


def substituted(rows: torch.Tensor, ends: Sequence[EndRows]) -> torch.Tensor:
    """The conditioning ``(B, T, D)`` with its end and padding rows replaced."""
    result = rows.clone()
    for end in ends:
        result[:, list(end.rows), end.columns] = end.values.to(rows)
    return result
