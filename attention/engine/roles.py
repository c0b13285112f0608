"""What the rows of a bound conditioning are for: each entity's own, words of the whole picture, or the encoder's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from ...parsing.binding import Binding, Entity


class Roles(NamedTuple):
    """Positions in the conditioning sequence. ``groups`` are the entities' own, and may overlap; ``words`` are words
    in no group; ``end`` the end tokens and padding. The start token is in none of them."""

    groups: tuple[tuple[int, ...], ...]
    words: tuple[int, ...]
    end: tuple[int, ...]


def roles_of(binding: Binding, entities: Sequence[Entity]) -> Roles:
    """The roles where these entities have groups; the words of others count as words of the whole picture.

    Encoders that cut a prompt differently (SDXL has two) may give a position several roles; then the first of group,
    word, end counts.
    """
    groups = tuple(binding.group(entity) for entity in entities)
    grouped = {position for group in groups for position in group}

    def of_kind(*kinds: str) -> set[int]:
        return {i for tokens in binding.encoders for i in tokens.of_kind(*kinds) if i < binding.length}

    words = of_kind("text", "embedding") - grouped
    end = of_kind("end", "padding") - grouped - words
    return Roles(groups, tuple(sorted(words)), tuple(sorted(end)))


def word_rows(binding: Binding) -> tuple[int, ...]:
    """The rows of the conditioning that are words: no start, end or padding."""
    found = {row for tokens in binding.encoders for row in tokens.of_kind("text", "embedding")}
    return tuple(sorted(row for row in found if row < binding.length))


def check_rows(binding: Binding, length: int) -> None:
    """Raise ValueError if the conditioning of the binding has lost rows on its way to the sampler."""
    if length < binding.length:
        raise ValueError(
            f"The conditioning that carries this binding has only {length} rows; its prompt has {binding.length}. "
            "Connect the conditioning that came with the BINDING."
        )


def over_columns(row: torch.Tensor, context_rows: int, columns: int) -> torch.Tensor:
    """Values ``(..., length)`` of a conditioning's rows for all key columns: repeated as the conditioning was repeated
    to ``context_rows``, 0 for columns that others have appended."""
    repeated = torch.cat([row] * (context_rows // row.shape[-1]), dim=-1)
    return torch.nn.functional.pad(repeated, (0, columns - context_rows))
