"""One way of using the pack: what reaches the sampler."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from host import node_classes, run_node

FIELDS = {"model": "MODEL", "positive": "CONDITIONING", "binding": "SEMANTIC_BINDING"}
INPUTS = {"model": "model", "clip": "clip", "conditioning": "positive", "binding": "binding"}


@dataclass(frozen=True)
class Workflow:
    """What reaches the sampler, and the text encoder and binding it was made with.

    ``draft`` samples a workflow from the noise of the final pictures, all steps or the first so many: latents (B, C, h,
    w) and pictures (B, H, W, 3). ``begun`` are the latents to go on with, and the steps they have had.
    """

    model: Any
    clip: Any
    positive: Any
    binding: Any
    draft: Callable[..., tuple[Any, Any]] | None = None
    begun: tuple[Any, int] | None = None

    def through(self, node_id: str, **inputs: Any) -> Workflow:
        """The workflow with one more node of the pack: it gets what it asks for and replaces what it returns."""
        asked = {each.id for each in node_classes()[node_id].define_schema().inputs} - inputs.keys()
        inputs |= {name: getattr(self, field) for name, field in INPUTS.items() if name in asked}
        outputs = run_node(node_id, **inputs)
        return replace(self, **{field: outputs[kind] for field, kind in FIELDS.items() if kind in outputs})
