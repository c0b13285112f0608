"""Beside packs that make regions of several prompts: attention couple, region masks.

Their patch of cross-attention makes the batch larger, with a block of rows for each region in the place of a positive
one, and another joins it again behind the attention. In the larger batch conditionings are known by their rows alone:
a block may have the rows that the model was given, or those of a prompt that only the other pack has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch

from .calls import Call
from .rows import BoundCond, Chunk

CALL = "semantic_binding_call"
"""In the options of a layer: its Call, where another pack has made the batch larger."""


class Located(NamedTuple):
    """The ``call`` that a larger batch is, and its context and values ``(B, T, D)`` with the edits of techniques."""

    call: Call
    context: torch.Tensor
    value: torch.Tensor


def located(
    call: Call,
    given: torch.Tensor,
    context: torch.Tensor,
    value: torch.Tensor,
    encoded: Mapping[str, Sequence[torch.Tensor]],
    edit: Callable[[Chunk, torch.Tensor], torch.Tensor],
) -> Located:
    """Find the bound conditionings in a larger batch.

    Args:
        call: as the model was called, with the context ``given``.
        encoded: the rows ``(1, L, D)`` that are known of each binding.
        edit: the techniques' edits of the rows ``(B, L, D)`` of a prompt that only the other pack has.

    Raises:
        ValueError: the batch cannot be told apart.
    """
    size = call.rows // len(call.negative)
    if len(context) % size:
        raise ValueError(
            f"Another node has made {len(context)} rows of {call.rows} in the attention to the prompt, which are no "
            f"whole blocks of {size}. Semantic binding cannot tell them apart; take that node off this model."
        )
    blocks = [*context.split(size)]
    values = [*value.split(size)]
    chunks = []
    for number, block in enumerate(blocks):
        found = _owner(call, given, block, encoded, edit)
        if found is None:
            continue
        chunk, rows = found
        chunks.append(chunk._replace(start=number * size, stop=(number + 1) * size))
        if rows is not None:
            whole = _repeated(rows, block)
            values[number] = whole if _equal(values[number], block) else values[number]
            blocks[number] = whole
    call = call._replace(rows=len(context), chunks=tuple(chunks), context_rows=context.shape[1])
    return Located(call, torch.cat(blocks), torch.cat(values))


def _owner(
    call: Call, given: torch.Tensor, block: torch.Tensor, encoded, edit
) -> tuple[Chunk, torch.Tensor | None] | None:
    """The bound conditioning that a block is of, and the rows it is to have where they are not those it has."""
    for chunk in call.chunks:
        if _has_rows(block, given[chunk.rows, : chunk.cond.length]):
            return chunk, None
    for key, known in encoded.items():
        for rows in known:
            if not _has_rows(block, rows):
                continue
            for chunk in call.of(key):
                return chunk, given[chunk.rows, : chunk.cond.length]
            chunk = Chunk(0, len(block), BoundCond(key, rows.shape[1], None), first=call.fresh)
            return chunk, edit(chunk, rows.to(block).expand(len(block), -1, -1))
    return None


def _has_rows(block: torch.Tensor, rows: torch.Tensor) -> bool:
    fits = block.shape[1] % rows.shape[1] == 0 and block.shape[2] == rows.shape[2] and len(rows) in (1, len(block))
    return fits and _equal(block, _repeated(rows.to(block), block))


def _repeated(rows: torch.Tensor, block: torch.Tensor) -> torch.Tensor:
    return rows.expand(len(block), -1, -1).repeat(1, block.shape[1] // rows.shape[1], 1)


def _equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one, other)


def may_make_regions(options: Mapping[str, Any]) -> bool:
    """Whether other packs have both patches in the options of a model or call that regions take."""
    patches = options.get("patches", {})
    return bool(patches.get("attn2_patch") and patches.get("attn2_output_patch"))


def without_cross_patches(options: dict[str, Any]) -> dict[str, Any]:
    left = ("attn2_patch", "attn2_output_patch")
    return {**options, "patches": {name: each for name, each in options.get("patches", {}).items() if name not in left}}
