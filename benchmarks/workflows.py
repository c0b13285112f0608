"""The ways of using the pack that the benchmarks compare."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from host import node_classes, run_node

FIELDS = {"model": "MODEL", "positive": "CONDITIONING", "binding": "SEMANTIC_BINDING"}
INPUTS = {"model": "model", "conditioning": "positive", "binding": "binding"}


@dataclass(frozen=True)
class Workflow:
    """What reaches the sampler, and the binding it was made with."""

    model: Any
    positive: Any
    binding: Any

    def through(self, node_id: str, **inputs: Any) -> Workflow:
        """The workflow with one more node of the pack: it gets what it asks for and replaces what it returns."""
        asked = {each.id for each in node_classes()[node_id].define_schema().inputs} - inputs.keys()
        inputs |= {name: getattr(self, field) for name, field in INPUTS.items() if name in asked}
        outputs = run_node(node_id, **inputs)
        return replace(self, **{field: outputs[kind] for field, kind in FIELDS.items() if kind in outputs})


def modulated(workflow: Workflow, **on: bool) -> Workflow:
    """The given parts of attention modulation alone, in the settings of the demo model."""
    parts = dict.fromkeys(("self_attention_temperature", "object_focused_attention", "stage_weights"), False)
    return workflow.through("SBAttentionModulation", preset="demo model", **(parts | on))


WORKFLOWS: dict[str, Callable[[Workflow], Workflow]] = {
    "plain": lambda workflow: workflow,
    "recorder": lambda workflow: workflow.through("SBRecordAttention"),
    "self-attention temperature": lambda workflow: modulated(workflow, self_attention_temperature=True),
    "object-focused attention": lambda workflow: modulated(workflow, object_focused_attention=True),
    "stage weights": lambda workflow: modulated(workflow, stage_weights=True),
    "attention modulation": lambda workflow: workflow.through("SBAttentionModulation", preset="demo model"),
    "attention modulation, preset paper": lambda workflow: workflow.through("SBAttentionModulation", preset="paper"),
}
"""Name and nodes of each. A new technique is one more line; all but "plain" are compared with it."""
