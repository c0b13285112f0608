"""Which rows of a batch belong to which bound conditioning.

ComfyUI puts the conditionings of one model call behind each other, in an order and number that depend on memory, areas
and hooks: ``uuids`` and ``cond_or_uncond`` in ``transformer_options`` name the chunks. Conditionings of different
lengths are repeated up to a common length, so a token of a conditioning with L rows is found at every L-th column.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch

from ...parsing.binding import CONDITIONING_KEY


class Area(NamedTuple):
    """Part of the latent that a conditioning is confined to, in latent cells."""

    height: int
    width: int
    y: int
    x: int


class BoundCond(NamedTuple):
    """A conditioning that carries a binding's key; ``length`` is its own number of rows, before any repetition."""

    key: str
    length: int
    area: Area | None


class Chunk(NamedTuple):
    """Rows ``start`` to ``stop`` of a batch and the conditioning they were made with; ``first`` unless it was computed
    before in the same evaluation. ``name`` is the conditioning's uuid, the same in the whole run, and its slot, which
    may be another in further passes of guidance."""

    start: int
    stop: int
    cond: BoundCond
    first: bool = True
    name: tuple[Any, int] | None = None

    @property
    def rows(self) -> slice:
        return slice(self.start, self.stop)

    @property
    def uuid(self) -> Any:
        return None if self.name is None else self.name[0]


def bound_conds(
    conds: Sequence[list[dict[str, Any]] | None], negative_slots: frozenset[int], given: Mapping[Any, str]
) -> dict[tuple[Any, int], BoundCond]:
    """The conditionings of one model evaluation that carry a binding, by their uuid and slot (0 cond, 1 uncond).

    Args:
        given: those that the sampler was given, as ``given_conds`` has them. Where a conditioning has an area, ComfyUI
            copies it into the other slots, key and uuid included, with the text of that slot; such a copy is none of
            ours.
    """
    found = {}
    for slot, group in enumerate(conds):
        for cond in group or ():
            if slot in negative_slots or cond.get("uuid") not in given or not has_own_text(cond):
                continue
            area = Area(*cond["area"]) if "area" in cond else None
            found[cond["uuid"], slot] = BoundCond(given[cond["uuid"]], cond["cross_attn"].shape[1], area)
    return found


def given_conds(of_guider: Mapping[str, Iterable[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The bound conditionings that a sampler was given to draw.

    Nodes that make another conditioning of a bound one copy its dict, and with it the key: what is in a negative input,
    or has been zeroed out, is none.
    """
    return [
        cond
        for name, group in of_guider.items()
        for cond in group
        if not is_negative(name) and cond.get(CONDITIONING_KEY) and not is_zeroed(cond)
    ]


def is_negative(name: str) -> bool:
    """Whether a guider's conditionings of this name are what others are compared with: ComfyUI has "negative" and
    "empty_negative_prompt", other packs "nag_negative" and the like."""
    return "negative" in name


def is_zeroed(cond: Mapping[str, Any]) -> bool:
    """Whether a conditioning is one of ConditioningZeroOut, which leaves nothing of a text but its dict."""
    text = cond.get("cross_attn")
    return text is None or not text.any()


def has_own_text(cond: Mapping[str, Any]) -> bool:
    """Whether a conditioning has an encoded text and the model gets this one: not so a copy that ComfyUI has made for
    another slot of one with an area. Other nodes may change what the model gets (CADS adds noise); it stays its own."""
    text, encoded = cond.get("cross_attn"), cond["model_conds"].get("c_crossattn")
    return text is not None and encoded is not None and ("area" not in cond or _same(encoded.cond, text))


def negative_slots(conds: Sequence[list | None], of_guider: Mapping[str, list]) -> frozenset[int]:
    """The places of the negative conditionings among those of one model evaluation.

    Guiders pass them in different orders (DualCFGGuider has the negative first), so they are known by being the
    guider's own list; where a node passes lists of its own, the second is the negative, as in ComfyUI's sampling.
    """
    known = [slot for slot, group in enumerate(conds) if any(group is own for own in of_guider.values())]
    if not known:
        return frozenset([1])
    negative = [group for name, group in of_guider.items() if is_negative(name)]
    return frozenset(slot for slot in known if any(conds[slot] is group for group in negative))


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one is other or (one.shape == other.shape and torch.equal(one.to(other), other))


def chunks_of(
    conds: Mapping[tuple[Any, int], BoundCond], uuids: Iterable[Any], slots: Iterable[int], batch: int
) -> dict[tuple[Any, int], Chunk]:
    """The chunks of a model call that carry a binding; every chunk of the call has ``batch`` rows."""
    return {
        name: Chunk(place * batch, (place + 1) * batch, conds[name], name=name)
        for place, name in enumerate(zip(uuids, slots, strict=True))
        if name in conds
    }


def place_of(own: torch.Tensor, conditionings: Sequence[torch.Tensor], chunk: int) -> int | None:
    """The row at which an encoded text ``(1, T, D)`` begins in all conditionings ``(1, T', D)``: a multiple of
    ``chunk``, as Conditioning (Concat) puts prompts behind each other; None if it is not in them. Batches of other
    sizes round differently."""
    places: set[int] | None = None
    for rows in conditionings:
        starts = range(0, rows.shape[1] - own.shape[1] + 1, chunk)
        differences = {start: (rows[:, start : start + own.shape[1]] - own).abs().amax() for start in starts}
        found = {start for start, difference in differences.items() if difference < 1e-2 * own.abs().amax()}
        places = found if places is None else places & found
    return min(places, default=None) if places else None


def membership(
    groups: Sequence[tuple[Sequence[int], float]], length: int, context_rows: int, columns: int, device: torch.device
) -> torch.Tensor:
    """Matrix ``(columns, groups)`` that sums probabilities over key columns into weighted sums of each group's tokens.

    Args:
        groups: the token positions of each group, below ``length``, and their weight.
        length: rows of the conditioning itself.
        context_rows: rows of the context it was repeated to, a multiple of ``length``.
        columns: columns of the keys; those past ``context_rows`` were appended by others and belong to no group.
    """
    matrix = torch.zeros(columns, len(groups))
    for column, (positions, weight) in enumerate(groups):
        for position in positions:
            matrix[position:context_rows:length, column] = weight
    return matrix.to(device)
