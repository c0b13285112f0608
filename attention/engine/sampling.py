"""The one place that knows ComfyUI's patch points: how techniques get into a sampling run and out of it again.

A node only appends frozen settings to a tuple on its clone of the MODEL. When a sampler starts, one wrapper makes the
state of that run and hooks five more wrappers into the options of that run alone. The attention patches themselves
are put into the options of each single forward pass, later than those of any other pack, around what is found there.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import comfy.model_patcher
import comfy.patcher_extension
import comfy.samplers
import torch
from comfy.patcher_extension import WrappersMP

from ...parsing.binding import CONDITIONING_KEY, MERGED_KEY, REPLACED_KEY
from . import guiding
from .acting import check_acted, undo_left_behind
from .calls import Call, Evaluation
from .composing import compositions_of, expanded
from .gradient import FLAG
from .layers import layers_of
from .marks import check_given
from .others import blaming_others
from .patching import edited, patched
from .regional import may_make_regions
from .rows import BoundCond, Chunk, bound_conds, chunks_of, given_conds, negative_slots
from .run import Participant, Run, Technique
from .steps import step_of

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


def _sample(executor, *args, **kwargs):
    """Around a whole run, which an error is to leave nothing of."""
    try:
        return _run(executor, *args, **kwargs)
    except BaseException:
        undo_left_behind(executor.class_obj)
        raise


def _run(executor, noise, latent_image, sampler, sigmas, *args, **kwargs):
    """Begin the techniques, hook in, and undo it whatever happens."""
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
        encoded=_encoded(bound, techniques),
        may_have_regions=may_make_regions(original["transformer_options"]),
        merged=_entities(bound, MERGED_KEY),
        replaced=_entities(bound, REPLACED_KEY),
        compositions=compositions_of(guider.conds, techniques),
    )
    _note_unheeded(run)
    parts = [(technique.name, technique.begin(run)) for technique in techniques]
    run.names = {participant: name for name, participant in parts}
    participants = sorted(run.names, key=lambda one: one.edits_last)
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
        check_acted(run, guider, sampler)
    finally:
        guider.model_options = original
    for participant in participants:
        participant.finish(latent)
    return latent


def _encoded(bound: Sequence[dict[str, Any]], techniques: Sequence[Technique]) -> dict[str, tuple[torch.Tensor, ...]]:
    """The rows that are known of each binding's conditioning: as the sampler has it, as it was encoded, as it was
    merged."""
    found: dict[str, tuple[torch.Tensor, ...]] = {}
    pairs = [(cond[CONDITIONING_KEY], cond["cross_attn"]) for cond in bound]
    for technique in techniques:
        binding = getattr(technique, "binding", None)
        if binding is not None:
            pairs += [(binding.key, rows) for rows in (binding.encoded, getattr(technique, "rows", None))]
    for key, rows in pairs:
        if rows is not None and not any(rows is other for other in found.get(key, ())):
            found[key] = (*found.get(key, ()), rows)
    return found


def _entities(bound: Sequence[dict[str, Any]], mark: str) -> dict[str, frozenset[str]]:
    """The names of the entities that a mark in the conditionings names, for each binding that has it."""
    found: dict[str, frozenset[str]] = {}
    for cond in bound:
        if mark in cond:
            found[cond[CONDITIONING_KEY]] = found.get(cond[CONDITIONING_KEY], frozenset()).union(cond[mark])
    return found


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
    predict = functools.partial(_slot_by_slot, executor) if run.may_have_regions else executor
    with blaming_others(options["transformer_options"], "the parts of a composition were predicted"):
        found = predict(model, parts.conds, x, timestep, options)
    return parts.combined(found, functools.partial(_coverage, x, timestep))


def _slot_by_slot(executor, model, conds, x, timestep, options):
    """Packs that make regions know one positive conditioning in a model call."""
    slots = range(len(conds))
    alone = [[group if slot == place else None for slot, group in enumerate(conds)] for place in slots]
    return [executor(model, each, x, timestep, options)[slot] for slot, each in enumerate(alone)]


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
    uuids = {uuid for uuid, _ in run.conds} - run.evaluation.guided
    if uuids:
        run.evaluation.guided |= uuids
        guiding.guide(run, uuids, participants, guider, executor, model, conds, x, timestep, options)
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
    if call is not None and call.tiled:
        placed = [each for each in participants if each.needs_places and (run.guiding or each.wants(call))]
        _check_places(run, x, dict.fromkeys(run.names[each] for each in placed))
    if run.guiding:
        guiding.differentiate(run, participants, call, executor, x, t, c_concat, c_crossattn, control, options, kwargs)
        return torch.zeros_like(x)
    if call is not None:
        c_crossattn = edited(participants, call, c_crossattn)
        wanting = [participant for participant in participants if participant.wants(_with_regions(run, call))]
        run.wanting.update(wanting)
        if wanting or may_make_regions(options):
            options = patched(options, run, call, wanting, participants)
    if run.added_slots:
        options = {**options, "cond_or_uncond": run.given_slots(options["cond_or_uncond"])}
    return executor(x, t, c_concat, c_crossattn, control, options, **kwargs)


def _with_regions(run: Run, call: Call) -> Call:
    """The call with a chunk without rows for each binding that only another pack's regions may have."""
    if not run.may_have_regions:
        return call
    there = {chunk.cond.key for chunk in call.chunks}
    possible = tuple(
        Chunk(0, 0, BoundCond(key, rows[0].shape[1], None), first=call.fresh)
        for key, rows in run.encoded.items()
        if key not in there
    )
    return call._replace(chunks=(*call.chunks, *possible))


def _call(run: Run, x: torch.Tensor, context: torch.Tensor | None, options: dict[str, Any]) -> Call | None:
    if run.evaluation is None or context is None:
        return None
    run.predicted = True
    uuids, slots = options["uuids"], options["cond_or_uncond"]
    rows = len(uuids) * run.batch
    tiles, rest = divmod(x.shape[0], rows)
    if rest or not tiles:
        raise ValueError(
            f"Another node has split the batch: {rows} latents were expected in the model call, {x.shape[0]} found. "
            "Semantic binding cannot tell which is which; take that node off this model."
        )
    first = [
        chunk._replace(first=uuid not in run.evaluation.seen)
        for (uuid, _), chunk in chunks_of(run.conds, uuids, slots, run.batch).items()
    ]
    chunks = [
        chunk._replace(start=chunk.start + tile * rows, stop=chunk.stop + tile * rows)
        for tile in range(tiles)
        for chunk in first
    ]
    run.computed.update(chunk.cond.key for chunk in chunks)
    tiled = tiles > 1 or any(tuple(x.shape[-2:]) != _expected_size(run, chunk) for chunk in first)
    if tiles > 1 and not torch.equal(context, context[:rows].repeat(tiles, 1, 1)):
        raise ValueError(
            "Another node has split the latent into tiles that have other prompts each. Semantic binding cannot tell "
            "which is which; take that node off this model."
        )
    fresh = run.evaluation.seen.isdisjoint(uuids)
    if not run.guiding:
        run.evaluation.seen.update(uuids)
    negative = tuple(slot in run.negative_slots for slot in slots) * tiles
    return Call(run.evaluation.step, x.shape[0], negative, tuple(chunks), context.shape[1], fresh=fresh, tiled=tiled)


def _expected_size(run: Run, chunk: Chunk) -> tuple[int, int]:
    """The latent's height and width in a model call of a conditioning, in cells."""
    area = chunk.cond.area
    if area is None:
        return run.height, run.width
    return min(area.height, run.height - area.y), min(area.width, run.width - area.x)


def _check_places(run: Run, x: torch.Tensor, names: Iterable[str]) -> None:
    """Raise ValueError if techniques that act in places of the picture were to act on tiles of it."""
    names = " and ".join(names)
    if names:
        raise ValueError(
            f"Another node has split the latent: {run.height} x {run.width} cells were expected in the model call, "
            f"{x.shape[-2]} x {x.shape[-1]} found, in {x.shape[0]} rows. {names} has to know where in the "
            "picture such tiles are, and nothing tells. Take it or the tiling node off this model; what changes words "
            "alone (Semantic Token Merge, Stage Weights, Structured Conditioning, subjects that are not localised) and "
            "Self-Attention Temperature work in tiles."
        )
