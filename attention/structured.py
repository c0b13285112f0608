"""Structured conditioning: Structured Diffusion Guidance (Feng et al. 2023, arXiv 2212.05032), section 3.2.

Every noun phrase is encoded alone and put over its own words in a copy of the conditioning. All copies share the keys
of the whole prompt; the values are the mean over the prompt and its copies. The published code takes the mean of the
attentions' outputs, which is the same, as the projection to values is linear and the probabilities are shared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from ..parsing.binding import Binding, Span
from .engine.calls import Call, Layer
from .engine.roles import check_rows
from .engine.rows import Chunk
from .engine.run import Participant, Run
from .engine.steps import check_range, step_range

NAME = "Structured Conditioning"


@dataclass(frozen=True)
class ValueMean:
    """The mean over the conditioning and its copies, for rows ``(B, T, D)``: ``kept * rows + added``, both ``(T, D)``.

    ``kept`` is 1 where no phrase stands.
    """

    kept: torch.Tensor
    added: torch.Tensor

    def of(self, rows: torch.Tensor) -> torch.Tensor:
        """``(B, T, D)``; rows behind those of the prompt stay as they are."""
        length = len(self.kept)
        found = torch.addcmul(self.added, self.kept, rows[:, :length].float()).to(rows)
        return torch.cat([found, rows[:, length:]], dim=1)

    @torch.inference_mode(False)
    def to(self, device: torch.device) -> ValueMean:
        return ValueMean(self.kept.to(device), self.added.to(device))


@torch.inference_mode(False)
def value_mean(binding: Binding, columns: Sequence[slice], spans: Sequence[Span], encoded: torch.Tensor) -> ValueMean:
    """The mean over a conditioning and a copy of it for each span; it can take part in a backward pass.

    Args:
        columns: those of each text encoder.
        encoded: the phrases' own rows ``(1, chunk * spans, D)``, of ``parsing.noun_spans.phrase_tokens``.
    """
    share = 1 / (len(spans) + 1)
    kept = torch.ones(binding.length, encoded.shape[-1], dtype=torch.float64)
    added = torch.zeros_like(kept)
    for tokens, part in zip(binding.encoders, columns, strict=True):
        chunk = tokens.length // tokens.chunks
        for number, span in enumerate(spans):
            for place, row in enumerate(tokens.positions([span])[: chunk - 2], 1):
                if row < binding.length:
                    kept[row, part] -= share
                    added[row, part] += share * encoded[0, number * chunk + place, part].double()
    return ValueMean(kept.float(), added.float())


@dataclass(frozen=True)
class StructuredSettings:
    """``mean`` is None if no phrase says anything of an entity; ``start`` and ``end`` are fractions of the steps."""

    binding: Binding
    mean: ValueMean | None = field(compare=False)
    start: float
    end: float

    name = NAME

    def check(self, layers: tuple[Layer, ...]) -> None:
        """Raise ValueError if the range is empty."""
        check_range(self.start, self.end)

    def begin(self, run: Run) -> Participant:
        """Raises ValueError if the sampler was given a conditioning in which words have been merged or replaced."""
        run.require(self.binding, NAME)
        if self.mean is None:
            return Participant()
        if self.binding.key in run.merged:
            raise ValueError(
                f"{NAME} has nothing to act on: Semantic Token Merge has fused the phrases of "
                f'"{self.binding.text}" into one token each. Take one of the two nodes off this model.'
            )
        if replaced := run.replaced.get(self.binding.key):
            raise ValueError(
                f"{NAME} would undo what Token Arithmetic has done to {', '.join(sorted(replaced))}: it gives words "
                "the values of the prompt's own phrases. Take one of the two nodes away."
            )
        return Structured(self, run)


class Structured(Participant):
    """Gives the words of the phrases their mean values, in one run."""

    edits_values = True

    def __init__(self, settings: StructuredSettings, run: Run):
        self.binding = settings.binding
        self.steps = step_range(settings.start, settings.end, run.steps)
        self.means = {torch.device("cpu"): settings.mean}

    def wants(self, call: Call) -> bool:
        return call.step in self.steps and bool(call.of(self.binding.key))

    def edit_values(self, call: Call, chunk: Chunk, rows: torch.Tensor) -> torch.Tensor:
        if chunk.cond.key != self.binding.key:
            return rows
        check_rows(self.binding, chunk.cond.length)
        if rows.device not in self.means:
            self.means[rows.device] = self.means[torch.device("cpu")].to(rows.device)
        return self.means[rows.device].of(rows)
