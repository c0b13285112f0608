"""Composite tokens: semantic token merge of ToMe (Hu et al. 2024, arXiv 2411.07132), section 3.2.

An entity's noun, attributes and sub-objects become one row of the conditioning, at the place of its noun. Text encoders
side by side in the columns (SDXL) may cut the prompt differently, so each part is merged at its own rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from ...parsing.binding import Binding, Entity


class Part(NamedTuple):
    """What is merged in the columns of one text encoder: the rows of the noun, the first of which becomes the
    composite, and those of attributes and sub-objects."""

    columns: slice
    noun: tuple[int, ...]
    rest: tuple[int, ...]


@dataclass(frozen=True)
class Composite:
    """One entity's composite token, with a part for each text encoder."""

    entity: Entity
    parts: tuple[Part, ...]

    @property
    def positions(self) -> tuple[int, ...]:
        """Where it stands in the conditioning sequence: one row, unless the encoders cut the prompt differently."""
        return tuple(sorted({part.noun[0] for part in self.parts}))


def columns_of(binding: Binding, width: int) -> tuple[slice, ...]:
    """The columns of each text encoder in a conditioning of this width.

    Raises:
        ValueError: the encoders' widths do not make up the width.
    """
    if len(binding.encoders) == 1:
        return (slice(0, width),)
    widths = [tokens.width for tokens in binding.encoders]
    if None in widths or sum(widths) != width:
        parts = " and ".join(f"{tokens.encoder} ({tokens.width})" for tokens in binding.encoders)
        raise ValueError(
            f"The conditioning has {width} columns, but the text encoders of the BINDING are {parts}. Connect the "
            "conditioning that came with the BINDING."
        )
    ends = [sum(widths[: number + 1]) for number in range(len(widths))]
    return tuple(slice(end - width, end) for width, end in zip(widths, ends, strict=True))


def composites_of(binding: Binding, width: int) -> tuple[Composite, ...]:
    """The composite tokens of the entities that have an attribute or a sub-object, in a conditioning of this width.

    Raises:
        ValueError: an entity's noun has no row in an encoder's sequence.
    """
    return tuple(composite_of(binding, entity, width) for entity in binding.entities if len(entity.phrases) > 1)


def composite_of(binding: Binding, entity: Entity, width: int) -> Composite:
    """Where the entity's composite token stands, and what goes into it, in a conditioning of this width.

    Raises:
        ValueError: the entity's noun has no row in an encoder's sequence.
    """
    columns = columns_of(binding, width)
    return Composite(
        entity, tuple(_part(binding, entity, *each) for each in zip(binding.encoders, columns, strict=True))
    )


def _part(binding: Binding, entity: Entity, tokens, columns: slice) -> Part:
    def rows(phrases: Iterable) -> tuple[int, ...]:
        found = tokens.positions(span for phrase in phrases for span in phrase.spans)
        return tuple(row for row in found if row < binding.length)

    noun = rows([entity.noun])
    if not noun:
        raise ValueError(
            f"There are no tokens in the conditioning for {entity.name}, so there is no place for its composite token."
        )
    return Part(columns, noun, tuple(row for row in rows(entity.phrases) if row not in noun))


def merged(rows: torch.Tensor, composites: Sequence[Composite], noun_weight: float, rest_weight: float) -> torch.Tensor:
    """The conditioning ``(B, T, D)`` with composite tokens: ``noun_weight`` times the sum of the noun's rows plus
    ``rest_weight`` times that of the rows of attributes and sub-objects. All other rows that went into them are 0."""
    parts = [part for composite in composites for part in composite.parts]
    result = rows.clone()
    for part in parts:
        result[:, [*part.noun, *part.rest], part.columns] = 0
    for part in parts:
        own = rows[:, :, part.columns]
        noun, rest = own[:, list(part.noun)].sum(1), own[:, list(part.rest)].sum(1)
        result[:, part.noun[0], part.columns] = noun_weight * noun + rest_weight * rest
    return result


def index_of(composites: Sequence[Composite], width: int) -> torch.Tensor:
    """``(G, D)``: for every composite the row that each of its columns stands in; for ``taken`` and ``put``."""
    index = torch.zeros(len(composites), width, dtype=torch.long)
    for line, composite in enumerate(composites):
        for part in composite.parts:
            index[line, part.columns] = part.noun[0]
    return index


def taken(rows: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """The composite tokens ``(B, G, D)`` of a conditioning ``(B, T, D)``."""
    return rows.gather(1, index.expand(len(rows), -1, -1))


def put(rows: torch.Tensor, index: torch.Tensor, composites: torch.Tensor) -> torch.Tensor:
    """The conditioning ``(B, T, D)`` with these composite tokens ``(B, G, D)``."""
    return rows.scatter(1, index.expand(len(rows), -1, -1), composites)
