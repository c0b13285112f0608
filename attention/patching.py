"""What the techniques of a run change in one forward pass: the context, and the attention of the layers they want."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from comfy.ldm.modules.attention import optimized_attention

from .run import Attention, Call, Layer, Participant, Run


def edited(participants: Sequence[Participant], call: Call, context: torch.Tensor) -> torch.Tensor:
    """The context with the edits of the participants, in every repetition of a conditioning."""
    for chunk in call.chunks:
        found = context[chunk.rows, : chunk.cond.length]
        rows = found
        for participant in participants:
            rows = participant.edit_context(call, chunk, rows)
        if rows is not found:
            context = context.clone()
            context[chunk.rows] = rows.repeat(1, context.shape[1] // chunk.cond.length, 1)
    return context


def patched(
    options: dict[str, Any],
    run: Run,
    call: Call,
    participants: Sequence[Participant],
    observers: dict[Layer, Callable] | None = None,
) -> dict[str, Any]:
    """The options of this forward pass with our attention on the layers wanted; the given ones stay as they are.

    ``observers`` look at the cross-attention of their layer instead of the participants.
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
    if editing:
        patches = options.get("patches", {})
        options["patches"] = {**patches, "attn2_patch": [_Values(run, call, editing), *patches.get("attn2_patch", [])]}
    return options


class _Values:
    """The patch of all cross-attentions of one forward pass that edits what their values are made of, in every
    repetition of a conditioning. Layers are given the same rows, so that it is done once."""

    def __init__(self, run: Run, call: Call, participants: Sequence[Participant]):
        self.run = run
        self.call = call
        self.participants = participants
        self.given: torch.Tensor | None = None
        self.edited: torch.Tensor | None = None

    def __call__(self, n: torch.Tensor, context: torch.Tensor, value: torch.Tensor, extra: dict[str, Any]):
        self.run.acted.update(self.participants)
        if self.given is not value:
            self.given, self.edited = value, self._edited(value)
        return n, context, self.edited

    def _edited(self, value: torch.Tensor) -> torch.Tensor:
        result, columns = value.clone(), self.call.context_rows
        for chunk in self.call.chunks:
            found = value[chunk.rows, : chunk.cond.length]
            rows = found
            for participant in self.participants:
                rows = participant.edit_values(self.call, chunk, rows)
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
    run.acted.update(participants)
    _check_columns(layer, call, q, k)
    bias = _bias(_seen(layer, q, k, extra), call, participants)
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
def _bias(seen: Attention, call: Call, participants: Sequence[Participant]) -> torch.Tensor | None:
    """The sum ``(B, 1, N, T)`` of what the participants add to the logits; None where none adds anything."""
    total = None
    for participant in participants:
        for chunk, bias in participant.bias_cross(call, seen):
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
        q, k, v, extra["n_heads"], attn_precision=extra["attn_precision"], transformer_options=extra, **masked
    )
