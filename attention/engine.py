"""The one place that knows ComfyUI's patch points: how techniques get into a sampling run and out of it again.

A node only appends frozen settings to a tuple on its clone of the MODEL. When a sampler starts, one wrapper makes the
state of that run and hooks three more wrappers into the options of that run alone. The attention patches themselves
are put into the options of each single forward pass, later than those of any other pack, around what is found there.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import comfy.model_patcher
import comfy.patcher_extension
import torch
from comfy.ldm.modules.attention import optimized_attention
from comfy.patcher_extension import WrappersMP

from .layers import layers_of
from .rows import bound_conds, chunks_of
from .run import Attention, Call, Evaluation, Participant, Run, Technique
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


def _sample(executor, noise, latent_image, sampler, sigmas, *args, **kwargs):
    """Around a whole run: begin the techniques, hook in, and undo it whatever happens."""
    guider = executor.class_obj
    original = guider.model_options
    model = guider.model_patcher
    run = Run(
        layers=layers_of(model),
        sigmas=tuple(sigmas.tolist()),
        batch=noise.shape[0],
        height=noise.shape[-2],
        width=noise.shape[-1],
        cell=model.get_model_object("latent_format").spacial_downscale_ratio,
    )
    participants = tuple(technique.begin(run) for technique in original["transformer_options"][KEY])
    guider.model_options = comfy.model_patcher.create_model_options_clone(original)
    for kind, wrapper in (
        (WrappersMP.PREDICT_NOISE, functools.partial(_evaluate, run)),
        (WrappersMP.CALC_COND_BATCH, functools.partial(_identify, run)),
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


def _identify(run: Run, executor, model, conds, *args, **kwargs):
    """Before the conditionings become batches: which of them carry a binding."""
    run.conds = bound_conds(conds)
    run.keys.update(cond.key for cond in run.conds.values())
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
    uuids = options["uuids"]
    found = chunks_of(run.conds, uuids, options["cond_or_uncond"], x.shape[0] // len(uuids))
    chunks = []
    for (uuid, _), chunk in found.items():
        if uuid in run.evaluation.seen:
            continue
        run.evaluation.seen.add(uuid)
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
        chunks.append(chunk)
    return Call(run.evaluation.step, tuple(chunks), context.shape[1])


def _patched(options: dict[str, Any], run: Run, call: Call, participants: Sequence[Participant]) -> dict[str, Any]:
    """The options of this forward pass with our attention on the layers wanted; the given ones stay as they are."""
    replace = dict(options.get("patches_replace", {}))
    for kind, layers, observe in (("attn1", "self_layers", "observe_self"), ("attn2", "cross_layers", "observe_cross")):
        slots = dict(replace.get(kind, {}))
        for layer in run.layers:
            observers = [getattr(p, observe) for p in participants if layer in getattr(p, layers)]
            if observers:
                theirs = slots.get(layer.key, slots.get(layer.key[:2]))
                slots[layer.key] = functools.partial(_attend, layer, call, observers, theirs)
        replace[kind] = slots
    return {**options, "patches_replace": replace}


def _attend(layer, call: Call, observers: Sequence[Callable], theirs: Callable | None, q, k, v, extra: dict[str, Any]):
    """One attention: shown to the observers, then computed as it would have been without us."""
    with torch.no_grad():
        seen = Attention(layer, tuple(extra["activations_shape"][-2:]), extra["n_heads"], q, k)
        for observe in observers:
            observe(call, seen)
    if theirs is not None:
        return theirs(q, k, v, extra)
    return optimized_attention(
        q, k, v, extra["n_heads"], attn_precision=extra["attn_precision"], transformer_options=extra
    )
