"""What a technique sees of a sampling run, and what it may do in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import torch

from .rows import BoundCond, Chunk


class Layer(NamedTuple):
    """One transformer block. ``level`` counts halvings of the latent's grid: 0 is the latent's own, 2 a quarter of it.

    The first three fields are ComfyUI's key of the block: "input", "middle" or "output", the number of the UNet block,
    and the place of the transformer block within it.
    """

    block: str
    number: int
    index: int
    level: int

    @property
    def key(self) -> tuple[str, int, int]:
        return self[:3]

    @property
    def name(self) -> str:
        return f"{self.block} {self.number}.{self.index}"


class Evaluation:
    """One prediction the sampler asks for: one or more model calls at the same noise level.

    ``seen`` holds the uuids of the bound conditionings that were already computed in it. Guidance such as PAG or SAG
    computes them once more, with altered attention or on an altered latent; observers look at the first pass only.
    """

    def __init__(self, step: int):
        self.step = step
        self.seen: set[Any] = set()


@dataclass
class Run:
    """State of one sampling run: made when it starts, dropped when it ends.

    ``height`` and ``width`` are the latent's, in cells; ``cell`` is the size of a cell in pixels; ``batch`` the number
    of latents; ``sigmas`` the falling noise schedule, one longer than the steps. ``conds`` are the bound conditionings
    of the evaluation in progress and ``keys`` the bindings seen so far in the run.
    """

    layers: tuple[Layer, ...]
    sigmas: tuple[float, ...]
    batch: int
    height: int
    width: int
    cell: int
    evaluation: Evaluation | None = None
    conds: Mapping[tuple[Any, int], BoundCond] = field(default_factory=dict)
    keys: set[str] = field(default_factory=set)

    @property
    def steps(self) -> int:
        return len(self.sigmas) - 1


class Call(NamedTuple):
    """One forward pass of the UNet: its step, its chunks of a binding not seen before in this evaluation, and the rows
    of its context (before another pack's patches change them)."""

    step: int
    chunks: tuple[Chunk, ...]
    context_rows: int

    def of(self, key: str) -> tuple[Chunk, ...]:
        return tuple(chunk for chunk in self.chunks if chunk.cond.key == key)


class Attention(NamedTuple):
    """The attention of one layer in one call: projected ``q (B, N, H*D)`` and ``k (B, T, H*D)``; ``grid`` is the
    layer's (height, width), with N = height * width unless another pack has tiled or merged the queries."""

    layer: Layer
    grid: tuple[int, int]
    heads: int
    q: torch.Tensor
    k: torch.Tensor


class Participant:
    """One technique's part in one run. ``cross_layers`` and ``self_layers`` are the layers it observes."""

    cross_layers: frozenset[Layer] = frozenset()
    self_layers: frozenset[Layer] = frozenset()

    def wants(self, call: Call) -> bool:
        """Whether this call is to be observed at all."""
        return False

    def observe_cross(self, call: Call, attention: Attention) -> None:
        """Look at an attention to the prompt; called for the ``cross_layers`` of wanted calls."""

    def observe_self(self, call: Call, attention: Attention) -> None:
        """Look at an attention among the image's patches; called for the ``self_layers`` of wanted calls."""

    def finish(self, latent: torch.Tensor) -> None:
        """The run has come to its end and returned ``latent``. Not called after an error or an interrupt."""


class Technique(Protocol):
    """The frozen settings that a node puts on a MODEL."""

    def check(self, layers: tuple[Layer, ...]) -> None:
        """Raise ValueError if a model with these layers cannot do what is asked; called when the node executes."""

    def begin(self, run: Run) -> Participant: ...
