"""The ways of using the pack that the benchmarks compare."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

from drafts import attention_masks, detected, segmented
from host import node_classes, part
from workflow import Workflow

DEMO_MERGE: dict[str, Any] = {"end_tokens": {"end_tokens": "kept"}}
"""Inputs of Semantic Token Merge that suit the demo model."""

FOUND_MERGE: dict[str, Any] = {**DEMO_MERGE, "noun_weight": 1.0, "attribute_weight": 0.6}
FOUND_EXCITE: dict[str, Any] = {"softmax_over": "words", "thresholds": ""}
FOUND_LAYOUT: dict[str, Any] = {"layers": "latent/2", "step_size": 100.0}
FOUND_PIXELS: dict[str, Any] = {"step_size": 10.0}
"""Inputs found by find_settings.py, on prompts of their own."""


def modulated(workflow: Workflow, **on: bool) -> Workflow:
    """The given parts of attention modulation alone, in the settings of the demo model."""
    parts = dict.fromkeys(("self_attention_temperature", "object_focused_attention", "stage_weights"), False)
    return workflow.through("SBAttentionModulation", preset="demo model", **(parts | on))


def merged(workflow: Workflow) -> Workflow:
    """Semantic token merge in the settings of the demo model."""
    return workflow.through("SBTokenMerge", **DEMO_MERGE)


def optimised(workflow: Workflow, **changes: Any) -> Workflow:
    """Token optimisation in the settings of the demo model, with changes to its `Plan`."""
    plan = replace(part("attention.token_merge.presets").PLANS["demo model"], **changes)
    return workflow.through("SBTokenOptimization", settings=custom(plan))


def custom(plan: Any) -> dict[str, Any]:
    """The input `settings` of Token Optimization for a `Plan`."""
    return {"settings": "custom", **asdict(plan), "thresholds": ", ".join(map(str, plan.thresholds))}


def published(workflow: Workflow, **inputs: Any) -> Workflow:
    """Token merge and optimisation in the settings of ToMe's code for attributes, which are the nodes' defaults."""
    return workflow.through("SBTokenMerge").through("SBTokenOptimization", **inputs)


def guided(workflow: Workflow, loss: str, **changes: Any) -> Workflow:
    """Attention guidance with a loss in its published settings, with changes to its widgets."""
    (combo,) = (each for each in node_classes()["SBAttentionGuidance"].define_schema().inputs if each.id == "loss")
    (widgets,) = ({each.id: each.default for each in option.inputs} for option in combo.options if option.key == loss)
    return workflow.through("SBAttentionGuidance", loss={"loss": loss, **widgets, **changes})


def focused(workflow: Workflow) -> Workflow:
    """Object-focused attention in the settings of the demo model."""
    return modulated(workflow, object_focused_attention=True)


def masked(workflow: Workflow) -> Workflow:
    """Object-focused attention with fixed masks, in settings that suit the demo model."""
    inputs = {"background": "sees no entity", "end_and_padding": "closed", "start": 0.0}
    return workflow.through("SBObjectFocusedAttention", **inputs)


def side_by_side(workflow: Workflow) -> Workflow:
    """The entities in boxes next to each other, in the order of the prompt: a layout that no prompt asked for."""
    binding, count = workflow.binding, len(workflow.binding.entities)
    for place, entity in enumerate(binding.entities):
        binding = binding.with_entity(entity.name, box=(place / count, 0.0, (place + 1) / count, 1.0))
    return replace(workflow, binding=binding)


GROUPS: dict[str, dict[str, Callable[[Workflow], Workflow]]] = {
    "modulation": {
        "self-attention temperature": lambda workflow: modulated(workflow, self_attention_temperature=True),
        "object-focused attention": focused,
        "stage weights": lambda workflow: modulated(workflow, stage_weights=True),
        "attention modulation": lambda workflow: workflow.through("SBAttentionModulation", preset="demo model"),
        "attention modulation, preset paper": lambda workflow: workflow.through(
            "SBAttentionModulation", preset="paper"
        ),
    },
    "token-merge": {
        "token merge": merged,
        "token merge, found": lambda workflow: workflow.through("SBTokenMerge", **FOUND_MERGE),
        "token merge, simple end": lambda workflow: workflow.through("SBTokenMerge"),
        "token merge and entropy loss": lambda workflow: optimised(merged(workflow), token_steps=0),
        "token merge and semantic binding loss": lambda workflow: optimised(merged(workflow), entropy_steps=0),
        "token merge, both losses": lambda workflow: optimised(merged(workflow)),
        "optimisation without merge": optimised,
        "token merge, published settings": published,
        "token merge, published code": lambda workflow: published(workflow, mode="published code"),
    },
    "guidance": {
        "Attend-and-Excite": lambda workflow: guided(workflow, "attend and excite"),
        "A&E, words": lambda workflow: guided(workflow, "attend and excite", softmax_over="words"),
        "A&E, found": lambda workflow: guided(workflow, "attend and excite", **FOUND_EXCITE),
        "SynGen": lambda workflow: guided(workflow, "syngen"),
        "entropy loss": lambda workflow: guided(workflow, "entropy"),
        "layout": lambda workflow: guided(side_by_side(workflow), "layout"),
        "token and pixel losses": lambda workflow: guided(side_by_side(workflow), "token and pixel"),
        "layout, found": lambda workflow: guided(side_by_side(workflow), "layout", **FOUND_LAYOUT),
        "token and pixel, found": lambda workflow: guided(side_by_side(workflow), "token and pixel", **FOUND_PIXELS),
        "A&E, found, and object focus": lambda workflow: focused(guided(workflow, "attend and excite", **FOUND_EXCITE)),
        "SynGen and object focus": lambda workflow: focused(guided(workflow, "syngen")),
        "boxes, object-focused attention": lambda workflow: focused(side_by_side(workflow)),
        "boxes, layout and object-focused attention": lambda workflow: focused(
            guided(side_by_side(workflow), "layout")
        ),
        "token merge and Attend-and-Excite": lambda workflow: guided(merged(workflow), "attend and excite"),
        "structured conditioning": lambda workflow: workflow.through("SBStructuredConditioning"),
        "composed noise": lambda workflow: workflow.through("SBComposeNoise"),
    },
    "masks": {
        "object-focused attention": focused,
        "draft, masks from attention": lambda workflow: masked(attention_masks(workflow)[0]),
        "draft, masks from attention and SAM": lambda workflow: masked(segmented(workflow)),
        "draft, outlines of the shapes": lambda workflow: masked(detected(workflow)),
        "masks from the first steps": lambda workflow: masked(attention_masks(workflow, steps=4)[0]),
    },
}
"""Name and nodes of what is compared for one technique: its parts alone, and the whole in several settings."""

WORKFLOWS: dict[str, Callable[[Workflow], Workflow]] = {
    "plain": lambda workflow: workflow,
    "recorder": lambda workflow: workflow.through("SBRecordAttention"),
    **{name: make for group in GROUPS.values() for name, make in group.items()},
}
"""Name and nodes of each; all but "plain" are compared with it."""
