"""The one place that knows ComfyUI's patch points: how techniques get into a sampling run and out of it again.

A node only appends frozen settings to a tuple on its clone of the MODEL. When a sampler starts, one wrapper makes the
state of that run and hooks five more wrappers into the options of that run alone. The attention patches themselves
are put into the options of each single forward pass, later than those of any other pack, around what is found there.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import comfy.model_patcher
import comfy.patcher_extension
import comfy.samplers
import torch
from comfy.patcher_extension import WrappersMP

from ..parsing.binding import CONDITIONING_KEY, MERGED_KEY
from . import guiding
from .acting import check_acted
from .composed import compositions_of, expanded
from .gradient import FLAG
from .layers import layers_of
from .patching import edited, patched
from .rows import bound_conds, chunks_of, given_conds, negative_slots
from .run import Call, Evaluation, Participant, Run, Technique
from .steps import step_of
from .subjects import check_given

KEY = "semantic_binding"


def with_technique(model, technique: Technique):
    """A clone of the MODEL on which the technique takes part in every sampling run.

    Raises:
        ValueError: the model is no image UNet with cross-attention, or cannot do what the technique asks.
    """
    technique.check(layers_of(model))
    clone = _non_dynamic(model) if getattr(technique, "differentiates", False) else model.clone()
    options = clone.model_options["transformer_options"]
    options[KEY] = (*options.get(KEY, ()), technique)
    if not clone.get_wrappers(WrappersMP.OUTER_SAMPLE, KEY):
        clone.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, KEY, _sample)
    return clone


def _non_dynamic(model):
    """A clone whose weights stay where they are: under dynamic memory management they may be dropped between a forward
    and a backward pass.

    Raises:
        ValueError: the model cannot be loaded a second time.
    """
    try:
        return model.clone(disable_dynamic=True)
    except RuntimeError as error:
        raise ValueError(
            f"Gradients need a copy of this model without dynamic memory management, and its loader cannot give one "
            f"({error}) Load it with a stock loader, or start ComfyUI with --disable-dynamic-vram."
        ) from error


def techniques_on(model) -> tuple[Technique, ...]:
    """The techniques that a MODEL carries, in the order of their nodes."""
    return model.model_options["transformer_options"].get(KEY, ())


def _sample(executor, noise, latent_image, sampler, sigmas, *args, **kwargs):
    """Around a whole run: begin the techniques, hook in, and undo it whatever happens."""
    guider = executor.class_obj
    original = guider.model_options
    model = guider.model_patcher
    techniques = original["transformer_options"][KEY]
    bound = given_conds(guider.conds)
    check_given(bound, techniques)
    run = Run(
        layers=layers_of(model),
        sigmas=tuple(sigmas.tolist()),
        batch=noise.shape[0],
        height=noise.shape[-2],
        width=noise.shape[-1],
        cell=model.get_model_object("latent_format").spacial_downscale_ratio,
        techniques=techniques,
        given={cond["uuid"]: cond[CONDITIONING_KEY] for cond in bound},
        merged=frozenset(cond[CONDITIONING_KEY] for cond in bound if cond.get(MERGED_KEY)),
        compositions=compositions_of(guider.conds, techniques),
    )
    _note_unheeded(run)
    parts = [(technique.name, technique.begin(run)) for technique in techniques]
    participants = sorted((participant for _, participant in parts), key=lambda one: one.edits_last)
    guider.model_options = comfy.model_patcher.create_model_options_clone(original)
    for kind, wrapper in (
        (WrappersMP.PREPARE_SAMPLING, functools.partial(guiding.reserve, participants)),
        (WrappersMP.PREDICT_NOISE, functools.partial(_evaluate, run)),
        (WrappersMP.CALC_COND_BATCH, functools.partial(_compose, run, guider)),
        (WrappersMP.CALC_COND_BATCH, functools.partial(_identify, run, participants, guider)),
        (WrappersMP.APPLY_MODEL, functools.partial(_forward, run, participants)),
    ):
        comfy.patcher_extension.add_wrapper_with_key(kind, KEY, wrapper, guider.model_options, is_model_options=True)
    try:
        if any(participant.moves_latent for participant in participants):
            sampler = run.held.watching(sampler)
        latent = executor(noise, latent_image, sampler, sigmas, *args, **kwargs)
        check_acted(run, parts, guider, sampler)
    finally:
        guider.model_options = original
    for participant in participants:
        participant.finish(latent)
    return latent


def _note_unheeded(run: Run) -> None:
    """A line in the log for a bound conditioning that nothing on the model acts on."""
    heeded = {binding.key for technique in run.techniques if (binding := getattr(technique, "binding", None))}
    if not heeded.issuperset(run.given.values()):
        logging.info(
            "Semantic Binding: the sampler was given a bound conditioning that no node on its model acts on. If one "
            "should, look where models are merged: such nodes keep the settings of model1 alone, so put it after them."
        )


def _evaluate(run: Run, executor, x, timestep, *args, **kwargs):
    """Around one prediction, with all its model calls."""
    with _evaluation(run, timestep):
        return executor(x, timestep, *args, **kwargs)


@contextmanager
def _evaluation(run: Run, timestep: torch.Tensor) -> Iterator[None]:
    run.evaluation = Evaluation(step_of(float(timestep.max()), run.sigmas))
    try:
        yield
    finally:
        run.evaluation = None


def _compose(run: Run, guider, executor, model, conds, x, timestep, options):
    """Around all model calls at one latent: every part of a composition is predicted in a slot of its own."""
    if not run.compositions:
        return executor(model, conds, x, timestep, options)
    parts = expanded(conds, negative_slots(conds, guider.conds), guider.conds["negative"])
    run.added_slots = {} if parts is None else parts.origins
    if parts is None:
        return executor(model, conds, x, timestep, options)
    found = executor(model, parts.conds, x, timestep, options)
    return parts.combined(found, functools.partial(_coverage, x, timestep))


def _coverage(x: torch.Tensor, timestep: torch.Tensor, conds: Sequence[dict[str, Any]]) -> torch.Tensor:
    """How much conditionings weigh in each place, as ComfyUI has it: by area, mask, strength and timestep range."""
    total = torch.zeros_like(x)
    for cond in conds:
        region = {name: value for name, value in cond.items() if name != "gligen"}
        found = comfy.samplers.get_area_and_mult({**region, "model_conds": {}}, x, timestep)
        if found is not None:
            height, width, top, left = found.area or (*x.shape[-2:], 0, 0)
            total[..., top : top + height, left : left + width] += found.mult
    return total


def _identify(run: Run, participants, guider, executor, model, conds, x, timestep, options):
    """Before the conditionings become batches: which of them carry a binding, and which are the negative ones. Then the
    passes with gradients, and the shift of the network's input that they have found.

    What the network then says is taken as said of the sampler's own latent: the part of the shift that the prediction
    holds is taken off it. Guiders of other packs may ask for conditionings outside of what ComfyUI calls a prediction;
    each time is one then.
    """
    if run.evaluation is None:
        with _evaluation(run, timestep):
            return _identify(run, participants, guider, executor, model, conds, x, timestep, options)
    run.negative_slots = negative_slots(conds, guider.conds)
    run.conds = bound_conds(conds, run.negative_slots, run.given)
    if FLAG in options["transformer_options"]:
        return executor(model, conds, x, timestep, options)
    if not run.evaluation.guided:
        run.evaluation.guided = True
        guiding.guide(run, participants, guider, executor, model, conds, x, timestep, options)
    shift = guiding.shift_of(run, participants, model, x, timestep)
    if shift is None:
        return executor(model, conds, x, timestep, options)
    found = executor(model, conds, x + shift, timestep, options)
    held = model.model_sampling.calculate_denoised(timestep, torch.zeros_like(shift), shift)
    return [each if group is None else each - held for each, group in zip(found, conds, strict=True)]


def _forward(
    run: Run, participants: Sequence[Participant], executor, x, t, c_concat, c_crossattn, control, options, **kwargs
):
    """Around one forward pass: find the bound rows, edit their context, and patch the layers somebody wants."""
    if FLAG in options:
        return executor(x, t, c_concat, c_crossattn, control, options, **kwargs)
    call = _call(run, x, c_crossattn, options)
    if run.guiding:
        guiding.differentiate(run, participants, call, executor, x, t, c_concat, c_crossattn, control, options, kwargs)
        return torch.zeros_like(x)
    if call is not None:
        c_crossattn = edited(participants, call, c_crossattn)
        wanting = [participant for participant in participants if participant.wants(call)]
        run.wanting.update(wanting)
        if wanting:
            options = patched(options, run, call, wanting)
    if run.added_slots:
        options = {**options, "cond_or_uncond": run.given_slots(options["cond_or_uncond"])}
    return executor(x, t, c_concat, c_crossattn, control, options, **kwargs)


def _call(run: Run, x: torch.Tensor, context: torch.Tensor | None, options: dict[str, Any]) -> Call | None:
    if run.evaluation is None or context is None:
        return None
    run.predicted = True
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
        if not run.guiding:
            run.evaluation.seen.add(uuid)
    negative = tuple(slot in run.negative_slots for slot in slots)
    return Call(run.evaluation.step, x.shape[0], negative, tuple(chunks), context.shape[1])
