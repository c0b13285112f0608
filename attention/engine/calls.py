"""One forward pass of the UNet as techniques see it: its layers, its rows, and the attention in it."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from .probabilities import mean_probabilities
from .rows import Chunk


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

    ``seen`` holds the uuids of the conditionings that were already computed in it. Guidance such as PAG or SAG
    computes them once more, with altered attention or on an altered latent. ``guided`` are those for which the
    techniques that need gradients have had their pass.
    """

    def __init__(self, step: int):
        self.step = step
        self.seen: set[Any] = set()
        self.guided: set[Any] = set()


class Negative(NamedTuple):
    """What guidance compares with: the encoded negative prompt ``(1, T, D)``, and the guidance scale (CFG)."""

    context: torch.Tensor
    scale: float


class Call(NamedTuple):
    """One forward pass of the UNet.

    ``rows`` is the size of its batch, ``negative`` tells for each of the equal parts of the batch whether its
    conditioning is a negative one, ``chunks`` are the parts that carry a binding, ``context_rows`` the rows of its
    context (before another pack's patches change them). ``differentiated`` if gradients are taken through it;
    ``latents`` are those of the run that it has, in the order of its rows, if it is not all of them once. ``fresh`` if
    none of its conditionings was computed before in the evaluation; ``tiled`` if another node has it made of tiles of
    the latents.
    """

    step: int
    rows: int
    negative: tuple[bool, ...]
    chunks: tuple[Chunk, ...]
    context_rows: int
    differentiated: bool = False
    latents: tuple[int, ...] | None = None
    fresh: bool = True
    tiled: bool = False

    def of(self, key: str) -> tuple[Chunk, ...]:
        return tuple(chunk for chunk in self.chunks if chunk.cond.key == key)

    def first_of(self, key: str) -> tuple[Chunk, ...]:
        """Those of the binding that were not computed before in this evaluation."""
        return tuple(chunk for chunk in self.of(key) if chunk.first)


class Attention(NamedTuple):
    """The attention of one layer in one call: projected ``q (B, N, H*D)`` and ``k (B, T, H*D)``; ``grid`` is the
    layer's (height, width), with N = height * width unless another pack has tiled or merged the queries. ``bias``
    ``(B, 1, N, T)`` is what the techniques add to the logits, where they do."""

    layer: Layer
    grid: tuple[int, int]
    heads: int
    q: torch.Tensor
    k: torch.Tensor
    bias: torch.Tensor | None = None

    def check_whole(self) -> None:
        """Raise ValueError if the queries are not those of the patches of the grid."""
        if self.q.shape[1] != self.grid[0] * self.grid[1]:
            raise ValueError(
                f"Another node has tiled or merged the patches of layer {self.layer.name} in its attention to the "
                "prompt, so there is no telling which patch is where. Take that node off this model."
            )

    def probabilities(self, chunk: Chunk, groups: torch.Tensor, per_head: bool = False) -> torch.Tensor:
        """``(rows, N, G)``: probability that the patches of a chunk give each group of keys, mean over heads; or
        each head's, ``(rows, heads, N, G)``."""
        bias = None if self.bias is None else self.bias[chunk.rows]
        return mean_probabilities(self.q[chunk.rows], self.k[chunk.rows], self.heads, groups, bias, per_head)
