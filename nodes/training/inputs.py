"""Inputs that the trainer nodes share."""

from collections.abc import Mapping, Sequence
from typing import Any

from comfy_api.latest import io

from ...training.options import SHARED, Option, settings_of
from ...training.session import Settings

RATE_STEP = 1e-7
STEPS = {"alpha": 0.5, "learning_rate": RATE_STEP, "clip_norm": 0.05}
"""By how much the arrows of a number change it."""
ADVANCED = {"alpha", "targets", "schedule", "warm_up", "clip_norm", "checkpointing", "save_every"}
TOOLTIPS = {
    "name": (
        "Name of the LoRA, which is written to models/loras; may have subfolders: cats/tabby. A training that was "
        "stopped goes on under its name; nothing else of that name is ever overwritten."
    ),
    "steps": "How often the LoRA is changed. A finished training goes on when this is raised (schedule: constant).",
    "batch": "How many samples go through the network at once. Memory grows with it.",
    "accumulate": "How many batches make one step. Time grows with it, memory does not.",
    "rank": "Width of the LoRA: how much it can learn, and the size of its file.",
    "alpha": "The LoRA counts alpha / rank. Keep both equal for a factor of 1.",
    "targets": "Which layers of the transformer blocks the LoRA is trained for.",
    "learning_rate": "How far a step goes.",
    "schedule": "The learning rate over the steps: constant, or falling to 0 as half a cosine or in a straight line.",
    "warm_up": "In how many of the first steps the learning rate rises from 0.",
    "clip_norm": "The gradient of a step is cut to this norm; 0 for no limit.",
    "seed": "Same seed, same LoRA: order of the samples, noise, and what the LoRA begins with follow from it.",
    "checkpointing": (
        "Compute each block a second time in the backward pass instead of keeping what is within: under a third of "
        "the memory, a third more time."
    ),
    "save_every": (
        "After how many steps a checkpoint is written, from which a training goes on after a crash. One that is "
        "interrupted or fails writes one anyway. 0 for no others."
    ),
    "preview_every": "After how many steps pictures of preview_prompts are drawn. 0 for the last step only.",
    "preview_prompts": (
        "Prompts, one a line, of which pictures are drawn while it trains, always from the same noise (20 steps, "
        "CFG 5). Empty for none."
    ),
}


def input_of(name: str, option: Option, tooltip: str, step: float | None = None, advanced: bool = False):
    """The input for an option; ``step`` is that of a number's arrows."""
    shared = {"tooltip": tooltip, "advanced": advanced or None}
    limits = {"min": option.least, "max": option.most, "step": step}
    if option.choices:
        return io.Combo.Input(name, options=list(option.choices), default=option.default, **shared)
    if option.kind is bool:
        return io.Boolean.Input(name, default=option.default, **shared)
    if option.kind is int:
        # Seeds are to stay: with another one each time, a second run would be another training of the same name.
        still = {"control_after_generate": False} if name == "seed" else {}
        return io.Int.Input(name, default=option.default, **limits, **still, **shared)
    if option.kind is float:
        return io.Float.Input(name, default=option.default, **limits, **shared)
    if option.kind is tuple:
        return io.String.Input(name, default="\n".join(option.default), multiline=True, **shared)
    return io.String.Input(name, default=option.default, **shared)


def training_inputs(
    options: Mapping[str, Option], own: Sequence = (), tooltips: Mapping[str, str] | None = None
) -> list:
    """The shared inputs with a method's defaults, and after name and steps its ``own``; ``tooltips`` instead of those
    that are common."""
    told = TOOLTIPS | (tooltips or {})
    inputs = [input_of(name, options[name], told[name], STEPS.get(name), name in ADVANCED) for name in SHARED]
    return [*inputs[:2], *own, *inputs[2:]]


def settings_and_prompts(chosen: Mapping[str, Any]) -> tuple[Settings, list[str]]:
    """Of the values of the shared inputs."""
    prompts = [line.strip() for line in chosen["preview_prompts"].splitlines()]
    return settings_of(chosen), [line for line in prompts if line]
