"""Structured conditioning and what is watched of it."""

import torch

from modulate import Workbench
from modulation_reference import ModulationReference, attention, close

COPIES = {"a red cat": {1: 1, 2: 2, 3: 3}, "a blue dog": {5: 1, 6: 2, 7: 3}}
"""The phrases of PROMPT, and for each row of theirs in the prompt the row in the phrase alone."""


class StructuredBench(Workbench):
    """A Workbench with the node."""

    def structured(self, model=None, bound=None, start=0.0, end=1.0):
        return self.shown(model, bound, start, end).args[0]

    def shown(self, model=None, bound=None, start=0.0, end=1.0, clip=None):
        node = self.part("nodes.structured").SBStructuredConditioning
        binding = (bound or self.bound).binding
        with torch.inference_mode():
            return node.execute(model or self.model, clip or self.clip, binding, start, end)

    def copies(self, copies=None, bound=None) -> list[torch.Tensor]:
        """The conditioning and its copies, each with one phrase pasted over its words."""
        full = (bound or self.bound).embedding
        found = [full]
        for phrase, places in (copies or COPIES).items():
            alone, copy = self.encode(phrase)[0][0], full.clone()
            for row, source in places.items():
                copy[:, row] = alone[:, source]
            found.append(copy)
        return found

    def watcher(self) -> "StructuredReference":
        return StructuredReference(self.model)


class StructuredReference(ModulationReference):
    """Attentions to the prompt with a value for each copy."""

    def check_copies(self, copies: list[torch.Tensor], steps: range | None = None) -> set[tuple[str, int]]:
        """Assert that the attention of every row is the mean over the copies in these steps, in rows that have the
        first as their context, and the plain attention elsewhere. What was found, with the step."""
        found = set()
        for call in self.calls:
            bound = self.rows(call, copies[0]) if steps is None or call.step in steps else []
            for layer, seen in call.seen.items():
                if not layer.endswith("attn2"):
                    continue
                module = self.unet.get_submodule(layer)
                q, k, weight = seen["to_q"], seen["to_k"], module.to_v.weight.double()
                expected = attention(q, k, call.context.double() @ weight.T, module.heads)
                close(k, call.context.double() @ module.to_k.weight.double().T, (layer, call.step))
                plain = expected.clone()
                for row in bound:
                    repeated = [copy.double().repeat(1, k.shape[1] // copy.shape[1], 1) for copy in copies]
                    of_row = slice(row, row + 1)
                    each = [attention(q[of_row], k[of_row], copy @ weight.T, module.heads) for copy in repeated]
                    expected[of_row] = sum(each) / len(each)
                    assert (expected[of_row] - plain[of_row]).abs().max() > 1e-3 * plain.abs().max()
                close(expected, seen["result"], (layer, call.step))
                found |= {("structured", call.step)} if bound else set()
                found |= {("plain", call.step)} if len(bound) < len(q) else set()
        return found
