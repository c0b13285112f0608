"""The one place that knows ComfyUI's patch points: how techniques get into a sampling run and out of it again.

A node only appends frozen settings to a tuple on its clone of the MODEL. When a sampler starts, one wrapper makes the
state of that run and hooks three more wrappers into the options of that run alone. The attention patches themselves
are put into the options of each single forward pass, later than those of any other pack, around what is found there.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import comfy.model_patcher
import comfy.patcher_extension
import torch
from comfy.ldm.modules.attention import optimized_attention
from comfy.patcher_extension import WrappersMP

from ..parsing.binding import CONDITIONING_KEY
from .layers import layers_of
from .rows import bound_conds, chunks_of, negative_slots
from .run import Attention, Call, Evaluation, Layer, Participant, Run, Technique
from .steps import step_of

KEY = "semantic_binding"


def with_technique(model, technique: Technique):
    """A clone of the MODEL on which the technique takes part in every sampling run.

    Raises:
        ValueError: the model is no image UNet with cross-attention, or cannot do what the technique asks.
    """
    technique.check(layers_of(model))
    clone = model.clone()
    options = clone.model_options["transformer_options"]
    options[KEY] = (*options.get(KEY, ()), technique)
    if not clone.get_wrappers(WrappersMP.OUTER_SAMPLE, KEY):
        clone.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, KEY, _sample)
    return clone


def techniques_on(model) -> tuple[Technique, ...]:
    """The techniques that a MODEL carries, in the order of their nodes."""
    return model.model_options["transformer_options"].get(KEY, ())


def _sample(executor, noise, latent_image, sampler, sigmas, *args, **kwargs):
    """Around a whole run: begin the techniques, hook in, and undo it whatever happens."""
    guider = executor.class_obj
    original = guider.model_options
    model = guider.model_patcher
    techniques = original["transformer_options"][KEY]
    run = Run(
        layers=layers_of(model),
        sigmas=tuple(sigmas.tolist()),
        batch=noise.shape[0],
        height=noise.shape[-2],
        width=noise.shape[-1],
        cell=model.get_model_object("latent_format").spacial_downscale_ratio,
        techniques=techniques,
        keys=frozenset(key for cond in chain(*guider.conds.values()) if (key := cond.get(CONDITIONING_KEY))),
    )
    participants = tuple(technique.begin(run) for technique in techniques)
    guider.model_options = comfy.model_patcher.create_model_options_clone(original)
    for kind, wrapper in (
        (WrappersMP.PREDICT_NOISE, functools.partial(_evaluate, run)),
        (WrappersMP.CALC_COND_BATCH, functools.partial(_identify, run, guider)),
        (WrappersMP.APPLY_MODEL, functools.partial(_forward, run, participants)),
    ):
        comfy.patcher_extension.add_wrapper_with_key(kind, KEY, wrapper, guider.model_options, is_model_options=True)
    try:
        latent = executor(noise, latent_image, sampler, sigmas, *args, **kwargs)
    finally:
        guider.model_options = original
    for participant in participants:
        participant.finish(latent)
    return latent


def _evaluate(run: Run, executor, x, timestep, *args, **kwargs):
    """Around one prediction, with all its model calls."""
    run.evaluation = Evaluation(step_of(float(timestep.max()), run.sigmas))
    try:
        return executor(x, timestep, *args, **kwargs)
    finally:
        run.evaluation = None


def _identify(run: Run, guider, executor, model, conds, *args, **kwargs):
    """Before the conditionings become batches: which of them carry a binding, and which are the negative ones."""
    run.conds = bound_conds(conds)
    run.negative_slots = negative_slots(conds, guider.conds)
    return executor(model, conds, *args, **kwargs)


def _forward(
    run: Run, participants: Sequence[Participant], executor, x, t, c_concat, c_crossattn, control, options, **kwargs
):
    """Around one forward pass: find the bound rows, and patch the layers somebody wants in this pass."""
    call = _call(run, x, c_crossattn, options)
    if call is not None:
        wanting = [participant for participant in participants if participant.wants(call)]
        if wanting:
            options = _patched(options, run, call, wanting)
    return executor(x, t, c_concat, c_crossattn, control, options, **kwargs)


def _call(run: Run, x: torch.Tensor, context: torch.Tensor | None, options: dict[str, Any]) -> Call | None:
    if run.evaluation is None or context is None:
        return None
    uuids, slots = options["uuids"], options["cond_or_uncond"]
    chunks = []
    for (uuid, _), chunk in chunks_of(run.conds, uuids, slots, x.shape[0] // len(uuids)).items():
        area = chunk.cond.area
        expected = (run.height, run.width)
        if area is not None:
            expected = (min(area.height, run.height - area.y), min(area.width, run.width - area.x))
        if chunk.stop - chunk.start != run.batch or tuple(x.shape[-2:]) != expected:
            raise ValueError(
                f"Another node has split the latent: {run.batch} latents of {expected[0]} x {expected[1]} cells were "
                f"expected in the model call, {chunk.stop - chunk.start} of {x.shape[-2]} x {x.shape[-1]} found. "
                "Semantic binding cannot tell where such tiles belong; take the tiling node off this model."
            )
        chunks.append(chunk._replace(first=uuid not in run.evaluation.seen))
        run.evaluation.seen.add(uuid)
    negative = tuple(slot in run.negative_slots for slot in slots)
    return Call(run.evaluation.step, x.shape[0], negative, tuple(chunks), context.shape[1])


def _patched(options: dict[str, Any], run: Run, call: Call, participants: Sequence[Participant]) -> dict[str, Any]:
    """The options of this forward pass with our attention on the layers wanted; the given ones stay as they are."""
    replace = dict(options.get("patches_replace", {}))
    for kind, layers, attend in (("attn1", "self_layers", _attend_self), ("attn2", "cross_layers", _attend_cross)):
        slots = dict(replace.get(kind, {}))
        for layer in run.layers:
            taking_part = [p for p in participants if layer in getattr(p, layers)]
            if taking_part:
                theirs = slots.get(layer.key, slots.get(layer.key[:2]))
                slots[layer.key] = functools.partial(attend, layer, call, taking_part, theirs)
        replace[kind] = slots
    return {**options, "patches_replace": replace}


def _attend_self(
    layer: Layer, call: Call, participants: Sequence[Participant], theirs: Callable | None, q, k, v, extra
) -> torch.Tensor:
    """One self-attention: its queries scaled, then shown to the observers."""
    for participant in participants:
        factors = participant.scale_self(call)
        if factors is not None:
            q = q * _by_row(factors, q)
    _observed(layer, call, [p.observe_self for p in participants], q, k, extra)
    return theirs(q, k, v, extra) if theirs is not None else _attention(q, k, v, extra)


def _attend_cross(
    layer: Layer, call: Call, participants: Sequence[Participant], theirs: Callable | None, q, k, v, extra
) -> torch.Tensor:
    """One cross-attention: its logits biased, then shown to the observers.

    What another pack has put in its place knows no bias, so the difference that the bias makes is added to its result.
    """
    bias = _bias(_seen(layer, q, k, extra), call, participants)
    _observed(layer, call, [p.observe_cross for p in participants], q, k, extra, bias)
    if theirs is None:
        return _attention(q, k, v, extra, bias)
    found = theirs(q, k, v, extra)
    if bias is None:
        return found
    return found + _attention(q, k, v, extra, bias) - _attention(q, k, v, extra)


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


@torch.no_grad()
def _observed(layer: Layer, call: Call, observers: Sequence[Callable], q, k, extra: dict[str, Any], bias=None) -> None:
    seen = _seen(layer, q, k, extra)._replace(bias=bias)
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
