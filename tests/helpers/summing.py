"""Token Arithmetic on a bound prompt, alone and behind Semantic Token Merge, and in graphs."""

from __future__ import annotations

from types import SimpleNamespace

import torch

from merge import MergeBench
from modulation_graphs import BINDING, BOUND, CLIP, graph

ARITHMETIC = {
    **{"conditioning": BOUND, "clip": CLIP, "binding": BINDING, "entity": "circle", "end_tokens": "changed"},
    "expression": "a red circle + a circle with a dot - a circle",
}


def summed_graph(positive=("Arithmetic", 0), **inputs) -> dict:
    """The demo model with Token Arithmetic; inputs given change those above."""
    made = graph(conditioning=list(positive))
    made["Arithmetic"] = {"class_type": "SBTokenArithmetic", "inputs": {**ARITHMETIC, **inputs}}
    return made


class SumBench(MergeBench):
    """A MergeBench with the node."""

    def sum(
        self, expression: str, entity: str = "1", bound=None, *, conditioning=None, kept=False, clip=None
    ) -> SimpleNamespace:
        """The node's ``conditioning``, its only ``rows``, and the text it shows (``told``)."""
        bound, node = bound or self.bound, self.part("nodes.token_merge.arithmetic").SBTokenArithmetic
        given, ends = conditioning or bound.conditioning, "kept" if kept else "changed"
        with torch.inference_mode():
            found = node.execute(given, clip or self.clip, bound.binding, entity, expression, ends)
        (conditioning,) = found.args
        return SimpleNamespace(conditioning=conditioning, rows=conditioning[0][0], told=found.ui["text"][0])
