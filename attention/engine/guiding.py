"""Passes with gradients in a run: how the techniques that want them come by the model calls of their conditionings."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from .calls import Call, Layer, Negative
from .gradient import FLAG, ModelCall, differentiable, memory_of_a_row, ordinary, with_copies
from .patching import edited, patched
from .regional import may_make_regions
from .run import Participant, Run


def reserve(participants: Sequence[Participant], executor, model, noise_shape, conds, *args, **kwargs):
    """Before the model is loaded: have ComfyUI keep memory free for gradients, and load the weights as a whole.

    ComfyUI's estimate is for twice the rows it is told. Weights that are brought in layer by layer share memory, which
    a backward pass would find overwritten.
    """
    rows = max(participant.gradient_rows for participant in participants)
    if rows:
        needed = rows * memory_of_a_row(model.model, noise_shape)
        of_a_row = model.model.memory_required([2, *noise_shape[1:]])
        noise_shape = [max(noise_shape[0], math.ceil(needed / of_a_row)), *noise_shape[1:]]
        kwargs["force_full_load"] = True
    return executor(model, noise_shape, conds, *args, **kwargs)


def guide(run: Run, uuids: set, participants, guider, executor, model, conds, x, timestep, options) -> None:
    """Have ComfyUI set up the model calls of these bound conditionings alone; ``_forward`` passes them on."""
    step = run.evaluation.step
    wanted = {
        name
        for name, cond in run.conds.items()
        if name[0] in uuids and any(each.guides(cond.key, step) for each in participants)
    }
    if not wanted:
        return
    bound = [
        [cond for cond in group or () if (cond["uuid"], slot) in wanted] or None for slot, group in enumerate(conds)
    ]
    run.negative = _negative(guider)
    run.guiding = True
    try:
        one_device = {name: value for name, value in options.items() if name != "multigpu_clones"}
        executor(model, bound, x, timestep, one_device)
    finally:
        run.guiding = False
    shift = _placed(run, x, lambda participant, uuid: participant.move_latent(uuid, step), participants)
    if shift is not None:
        run.held.move(x, shift)


def _negative(guider) -> Negative | None:
    for cond in guider.conds.get("negative") or ():
        if "c_crossattn" in cond["model_conds"]:
            return Negative(ordinary(cond["model_conds"]["c_crossattn"].cond[:1]), float(guider.cfg))
    return None


def shift_of(run: Run, participants: Sequence[Participant], model, x, timestep) -> torch.Tensor | None:
    """What the participants add to the network's input, as a shift of the latent ``(B, C, H, W)``."""
    step = run.evaluation.step
    total = _placed(run, x, lambda participant, uuid: participant.shift_input(uuid, step), participants)
    if total is None:
        return None
    return total / model.model_sampling.calculate_input(timestep, x.new_ones(len(x), 1, 1, 1))


def _placed(run: Run, x: torch.Tensor, shift_by: Callable, participants: Sequence[Participant]) -> torch.Tensor | None:
    """The sum ``(B, C, H, W)`` of what participants add in the areas of the bound conditionings; None for nothing."""
    total = None
    for (uuid, _), cond in run.conds.items():
        for participant in participants:
            shift = shift_by(participant, uuid)
            if shift is None:
                continue
            total = torch.zeros_like(x) if total is None else total
            top, left = (0, 0) if cond.area is None else (cond.area.y, cond.area.x)
            total[..., top : top + shift.shape[-2], left : left + shift.shape[-1]] += shift
    return total


def differentiate(run: Run, participants, call, executor, x, t, c_concat, context, control, options, extra) -> None:
    """Give the participants the model call of each bound conditioning, to take gradients through it.

    Raises:
        ValueError: another node takes gradients around this very call.
    """
    if x.requires_grad:
        raise ValueError(
            "Another node takes gradients through the sampler's model calls while a node of Semantic Binding takes its "
            "own inside of them. Take one of the two off this model."
        )

    def with_techniques(options: dict[str, Any], call: Call, observers: dict[Layer, Callable]) -> dict[str, Any]:
        wanting = [participant for participant in participants if participant.wants(call)]
        return patched(options, run, call, wanting, participants, observers)

    if run.regional is None and may_make_regions(options):
        probed = {**patched(options, run, call, (), ()), FLAG: True}
        executor(x, t, c_concat, context, control, probed, **extra)
    with differentiable(executor.class_obj):
        for chunk in call.chunks:

            def own(value: Any, rows: slice = chunk.rows) -> Any:
                of_rows = torch.is_tensor(value) and value.shape[:1] == x.shape[:1]
                return ordinary(value[rows] if of_rows else value)

            uuid, slot = chunk.name
            length = chunk.cond.length
            alone = Call(
                call.step,
                run.batch,
                (slot in run.negative_slots,),
                (chunk._replace(start=0, stop=run.batch, first=False),),
                length,
                differentiated=True,
            )
            rows = own(context)[:, :length].float()
            found = edited([each for each in participants if not each.edits_last], alone, rows)
            model_call = ModelCall(
                executor=executor,
                x=own(x),
                sigma=own(t),
                c_concat=own(c_concat),
                context=rows,
                control=control and {name: [own(each) for each in tensors] for name, tensors in control.items()},
                options={
                    **with_copies(options),
                    "cond_or_uncond": run.given_slots([slot]),
                    "uuids": [uuid],
                    "sigmas": ordinary(options["sigmas"]),
                },
                extra={name: own(value) for name, value in extra.items()},
                call=alone,
                patched=with_techniques,
                regional=bool(run.regional),
            )
            for participant in sorted(participants, key=lambda each: not each.edits_last):
                if participant.guides(chunk.cond.key, call.step):
                    model_call = model_call.with_(context=edited(participants, alone, rows))
                    participant.guide(model_call, alone.chunks[0], found)
