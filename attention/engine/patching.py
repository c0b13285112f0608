"""What the techniques of a run change in one forward pass: the context, and the attention of the layers they want."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from comfy.ldm.modules.attention import optimized_attention

from .calls import Attention, Call, Layer
from .regional import CALL, located, may_make_regions
from .rows import Chunk
from .run import Participant, Run


def edited(participants: Sequence[Participant], call: Call, context: torch.Tensor) -> torch.Tensor:
    """The context with the edits of the participants, in every repetition of a conditioning."""
    for chunk in call.chunks:
        found = context[chunk.rows, : chunk.cond.length]
        rows = _edited_rows(participants, call, chunk, found)
        if rows is not found:
            context = context.clone()
            context[chunk.rows] = rows.repeat(1, context.shape[1] // chunk.cond.length, 1)
    return context


def _edited_rows(participants: Sequence[Participant], call: Call, chunk: Chunk, rows: torch.Tensor) -> torch.Tensor:
    for participant in participants:
        rows = participant.edit_context(call, chunk, rows)
    return rows


def patched(
    options: dict[str, Any],
    run: Run,
    call: Call,
    participants: Sequence[Participant],
    everyone: Sequence[Participant],
    observers: dict[Layer, Callable] | None = None,
) -> dict[str, Any]:
    """The options of this forward pass with our attention on the layers wanted; the given ones stay as they are.

    ``participants`` are those that want something of it, ``everyone`` all that may edit a context. ``observers`` look
    at the cross-attention of their layer instead of the participants.
    """
    replace = dict(options.get("patches_replace", {}))
    for kind, layers, attend in (("attn1", "self_layers", _attend_self), ("attn2", "cross_layers", _attend_cross)):
        slots = dict(replace.get(kind, {}))
        for layer in run.layers:
            taking_part = [p for p in participants if layer in getattr(p, layers)]
            if observers is None:
                watching = [p.observe_self if kind == "attn1" else p.observe_cross for p in taking_part]
            else:
                watching = [observers[layer]] if kind == "attn2" and layer in observers else []
            if taking_part or watching:
                theirs = slots.get(layer.key, slots.get(layer.key[:2]))
                slots[layer.key] = functools.partial(attend, run, layer, call, taking_part, watching, theirs)
        replace[kind] = slots
    options = {**options, "patches_replace": replace}
    editing = [participant for participant in participants if participant.edits_values]
    if editing or may_make_regions(options):
        patches = options.get("patches", {})
        theirs, together = tuple(patches.get("attn2_patch", ())), may_make_regions(options)
        whole = CrossPatch(run, call, everyone, editing, theirs, together)
        options["patches"] = {**patches, "attn2_patch": [whole]}
    return options


class CrossPatch:
    """All patches of the cross-attentions of one forward pass in one: the edits of what values are made of, those of
    other packs, and, where they have made the batch larger, the edits of the blocks that are bound.

    Values are edited before other packs see them, as what these do is done to each of several copies; but where they
    make regions, which are made of the prompts as they were.
    """

    def __init__(
        self,
        run: Run,
        call: Call,
        everyone: Sequence[Participant],
        editing: Sequence[Participant],
        theirs: Sequence[Callable],
        may_make_regions: bool,
    ):
        self.run, self.call, self.everyone, self.editing, self.theirs = run, call, everyone, editing, theirs
        self.may_make_regions = may_make_regions
        self.given: torch.Tensor | None = None
        self.edited: torch.Tensor | None = None

    def __call__(self, n: torch.Tensor, context: torch.Tensor, value: torch.Tensor, extra: dict[str, Any]):
        if self.run.regional or (self.may_make_regions and self.run.regional is None):
            found = self._by_others(n, context, value, extra)
            if len(found[0]) != len(n):
                self.run.regional = True
                return self._in_regions(found, context, extra)
            if not all(self.call.negative):
                self.run.regional = bool(self.run.regional)
            if not self.editing:
                return found
        return self._by_others(n, context, self._values_of(value), extra)

    def _by_others(self, n, context, value, extra):
        for patch in self.theirs:
            n, context, value = patch(n, context, value, extra)
        return n, context, value

    def _in_regions(self, found, given: torch.Tensor, extra: dict[str, Any]):
        n, context, value = found

        def edit(chunk: Chunk, rows: torch.Tensor) -> torch.Tensor:
            return _edited_rows(self.everyone, self.call, chunk, rows)

        call, context, value = located(self.call, given, context, value, self.run.encoded, edit)
        extra[CALL] = call
        if self.editing:
            self.run.acted.update(self.editing)
            value = _edited_values(self.editing, call, value)
        return n, context, value

    def _values_of(self, value: torch.Tensor) -> torch.Tensor:
        """Layers are given the same rows, so that it is done once."""
        if not self.editing:
            return value
        self.run.acted.update(self.editing)
        if self.given is not value:
            self.given, self.edited = value, _edited_values(self.editing, self.call, value)
        return self.edited


def _edited_values(editing: Sequence[Participant], call: Call, value: torch.Tensor) -> torch.Tensor:
    """Values ``(B, T, D)`` with the edits, in every repetition of a conditioning."""
    result, columns = value.clone(), call.context_rows
    for chunk in call.chunks:
        found = value[chunk.rows, : chunk.cond.length]
        rows = found
        for participant in editing:
            rows = participant.edit_values(call, chunk, rows)
        if rows is not found:
            result[chunk.rows, :columns] = rows.repeat(1, columns // chunk.cond.length, 1)
    return result


def _attend_self(
    run: Run,
    layer: Layer,
    call: Call,
    participants: Sequence[Participant],
    observers: Sequence[Callable],
    theirs: Callable | None,
    q,
    k,
    v,
    extra,
) -> torch.Tensor:
    """One self-attention: its queries scaled, then shown to the observers."""
    run.acted.update(participants)
    for participant in participants:
        factors = participant.scale_self(call)
        if factors is not None:
            q = q * _by_row(factors, q)
    _observed(layer, call, observers, q, k, extra)
    return theirs(q, k, v, extra) if theirs is not None else _attention(q, k, v, extra)


def _attend_cross(
    run: Run,
    layer: Layer,
    call: Call,
    participants: Sequence[Participant],
    observers: Sequence[Callable],
    theirs: Callable | None,
    q,
    k,
    v,
    extra,
) -> torch.Tensor:
    """One cross-attention: its logits biased, then shown to the observers.

    What another pack has put in its place knows no bias, so the difference that the bias makes is added to its result.
    """
    call = extra.get(CALL, call)
    _check_columns(layer, call, q, k)
    bias = _bias(run, _seen(layer, q, k, extra), call, participants)
    if observers and call.chunks:
        run.acted.update(participants)
    _observed(layer, call, observers, q, k, extra, bias)
    if theirs is None:
        return _attention(q, k, v, extra, bias)
    found = theirs(q, k, v, extra)
    if bias is None:
        return found
    return found + _attention(q, k, v, extra, bias) - _attention(q, k, v, extra)


def _check_columns(layer: Layer, call: Call, q: torch.Tensor, k: torch.Tensor) -> None:
    """Raise ValueError if another pack's patch has made keys of the context that are not those of its rows."""
    if len(k) != len(q):
        raise ValueError(
            f"Another node computes attention to {len(k)} prompts for {len(q)} pictures in layer {layer.name}, as the "
            "samplers of normalised attention guidance (KSamplerWithNAG) do. Use core's Normalized Attention Guidance "
            "with an ordinary sampler, or take the nodes of Semantic Binding that act on attention to the prompt off "
            "this model; Semantic Token Merge and Self-Attention Temperature may stay."
        )
    if k.shape[1] < call.context_rows:
        raise ValueError(
            f"Another node leaves {k.shape[1]} of the {call.context_rows} rows of the prompt in layer {layer.name}, as "
            "CLIP NegPip does, which makes keys and values of every other row. Take that node off this model."
        )


def _by_row(factors: Sequence[float], q: torch.Tensor) -> float | torch.Tensor:
    """The factor of each part on all its rows; HyperTile makes several rows of each, next to one another."""
    if len(set(factors)) == 1:
        return factors[0]
    return q.new_tensor(factors).repeat_interleave(q.shape[0] // len(factors))[:, None, None]


@torch.no_grad()
def _bias(run: Run, seen: Attention, call: Call, participants: Sequence[Participant]) -> torch.Tensor | None:
    """The sum ``(B, 1, N, T)`` of what the participants add to the logits; None where none adds anything."""
    total = None
    for participant in participants:
        for chunk, bias in participant.bias_cross(call, seen):
            run.acted.add(participant)
            if total is None:
                total = seen.q.new_zeros(call.rows, 1, seen.q.shape[1], seen.k.shape[1])
            total[chunk.rows, 0] += bias
    return total


def _observed(layer: Layer, call: Call, observers: Sequence[Callable], q, k, extra: dict[str, Any], bias=None) -> None:
    seen = _seen(layer, q, k, extra)._replace(bias=bias)
    with torch.set_grad_enabled(call.differentiated):
        for observe in observers:
            observe(call, seen)


def _seen(layer: Layer, q: torch.Tensor, k: torch.Tensor, extra: dict[str, Any]) -> Attention:
    return Attention(layer, tuple(extra["activations_shape"][-2:]), extra["n_heads"], q, k)


def _attention(q, k, v, extra: dict[str, Any], bias: torch.Tensor | None = None) -> torch.Tensor:
    """ComfyUI's own attention, as the layer would have called it."""
    masked = {} if bias is None else {"mask": bias}
    return optimized_attention(
        q, k, v, extra["n_heads"], attn_precision=extra.get("attn_precision"), transformer_options=extra, **masked
    )
