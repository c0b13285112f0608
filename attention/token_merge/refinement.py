"""Entropy loss: the attention map of each composite token is to be compact, so that its things stay together.

ToMe (Hu et al. 2024, arXiv 2411.07132), section 3.3, with the numbers of the published code. There all rows of the
conditioning are moved, with the pooled text at 0, until the sum over the entities is low enough; here by default only
the composites, each until it has reached a threshold of its own.
"""

from __future__ import annotations

import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch

from ..engine.calls import Layer
from ..engine.levels import chosen_levels
from ..engine.rows import membership
from ..engine.slopes import slopes
from .binding_losses import composite_maps, entropy_loss, pose_loss, strength, threshold_of_entity, threshold_of_sum
from .composite import Composite, index_of, put, taken

if typing.TYPE_CHECKING:
    from ..engine.gradient import ModelCall

PUBLISHED_LAYERS = frozenset([("output", 1, 1), ("output", 1, 2), ("output", 1, 3)])
"""Of SDXL, whose maps the published code takes."""


def entropy_layers(layers: tuple[Layer, ...], height: int, width: int) -> frozenset[Layer]:
    """The layers whose maps the entropy loss looks at: those of the published code where the model has them, else the
    decoder's on the grid that carries meaning best."""
    published = frozenset(layer for layer in layers if layer.key in PUBLISHED_LAYERS)
    if len(published) == len(PUBLISHED_LAYERS):
        return published
    levels = chosen_levels("auto", layers, height, width)
    return frozenset(layer for layer in layers if layer.block == "output" and layer.level in levels)


@dataclass(frozen=True)
class Sizes:
    """How far and how often one step moves: at most ``iterations`` updates, ``of_rows`` for the conditioning,
    ``of_input`` for the network's input, until the losses are below ``threshold``, in the published code's numbers."""

    iterations: int
    of_rows: float
    of_input: float
    threshold: float

    def at(self, step: int, steps: int) -> Sizes:
        part = strength(step, steps)
        return Sizes(self.iterations, part * self.of_rows, part * self.of_input, self.threshold)


class Losses(NamedTuple):
    """Of one pass: entropy ``(B, G)``, pose ``(B,)``, the gradients of rows ``(B, T, D)`` and of latents,
    and which latents ``(B,)`` are to go on."""

    entropy: torch.Tensor
    pose: torch.Tensor
    of_rows: torch.Tensor
    of_x: torch.Tensor
    going: torch.Tensor


@dataclass(frozen=True)
class Refinement:
    """``layers`` are those whose maps count, ``words`` the rows of the conditioning that are words."""

    layers: frozenset[Layer]
    words: tuple[int, ...]
    composites: tuple[Composite, ...]
    pose: bool
    published: bool

    def refined(
        self, call: ModelCall, sizes: Sizes, note: Callable[[str, int, torch.Tensor], None]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The call's rows ``(B, T, D)`` and latents ``(B, C, H, W)`` after one step's updates.

        ``note`` gets every loss: its name, the iteration, and the values ``(B, entities)``.
        """
        if self.published:
            call = call.without_pooled()
        rows, x, scale = call.context, call.x, call.input_scale
        going = torch.ones(len(rows), dtype=torch.bool, device=rows.device)
        for iteration in range(sizes.iterations):
            parts = torch.arange(len(rows)).split(call.rows_at_once)
            now = call.with_(context=rows, x=x)
            found = [self._losses(now.of_latents(part.tolist()), going[part], sizes.threshold) for part in parts]
            losses = Losses(*map(torch.cat, zip(*found, strict=True)))
            note("entropy", iteration, losses.entropy)
            if self.pose:
                note("pose", iteration, losses.pose[:, None])
            rows = rows - sizes.of_rows * losses.of_rows
            x = x - sizes.of_input * losses.of_x / scale**2
            going = losses.going
            if not going.any():
                break
        return rows, x

    def _losses(self, call: ModelCall, going: torch.Tensor, threshold: float) -> Losses:
        rows, x = (leaf.detach().requires_grad_() for leaf in (call.context, call.x))
        length = rows.shape[1]
        groups = membership([((row,), 1.0) for row in self.words], length, length, length, rows.device)
        seen = call.with_(context=rows, x=x).attention(self.layers, groups)
        columns = [[self.words.index(row) for row in composite.positions] for composite in self.composites]
        maps = composite_maps(torch.stack([layer.probabilities for layer in seen]).mean(0), columns)
        count, cells = maps.shape[1:]
        entropy = entropy_loss(maps)
        pose = pose_loss(maps, seen[0].grid) if self.pose else entropy.new_zeros(len(entropy))
        if self.published:
            active = going[:, None].expand_as(entropy)
            going = going & (entropy.sum(1) + pose >= threshold_of_sum(threshold, count, cells))
        else:
            active = entropy > threshold_of_entity(threshold, cells)
            going = active.any(1)
        total = (entropy * active).sum() + (pose * active.any(1)).sum()
        of_rows, of_x = slopes(total, (rows, x))
        if not self.published:
            index = index_of(self.composites, rows.shape[-1]).to(rows.device)
            of_rows = put(torch.zeros_like(of_rows), index, taken(of_rows, index))
        return Losses(entropy.detach(), pose.detach(), of_rows, of_x, going)
