"""Every technique of the pack on one bound prompt, by name."""

from __future__ import annotations

import torch

from attention_reference import record
from compose import ComposeBench
from guiding import LOSSES, STRONG
from injecting import SubjectBench
from modulate import ALL

TECHNIQUES = [
    "nothing",
    "recorder",
    "modulation",
    "structured",
    "merge",
    "optimization",
    *LOSSES,
    "subjects",
    "composition",
]


class TechniquesBench(SubjectBench, ComposeBench):
    """Every technique on one bound prompt."""

    def with_technique(self, name: str) -> tuple:
        """The MODEL and the CONDITIONING of the nodes of a technique."""
        if name == "nothing":
            return self.model, self.positive
        if name == "recorder":
            return record(self.part, self.model, self.bound)[0], self.positive
        if name == "modulation":
            return self.modulated(**ALL), self.positive
        if name == "structured":
            node = self.part("nodes.structured").SBStructuredConditioning
            with torch.inference_mode():
                return node.execute(self.model, self.clip, self.bound.binding, 0.0, 1.0).args[0], self.positive
        if name == "merge":
            return self.merged.model, self.merged.conditioning
        if name == "optimization":
            return self.optimized(), self.merged.conditioning
        if name in LOSSES:
            return self.guide(name, **STRONG[name]), self.positive
        if name == "subjects":
            injected = self.inject(localisation="masks, else attention")
            return injected.model, injected.conditioning
        return self.compose(prompt_weight=1.0).args
