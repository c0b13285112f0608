"""What the tests of guidance share: its node on a model, a technique that moves the latent by a given shift, and the
losses by loops."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from types import SimpleNamespace
from typing import Any

import torch

from gradients import GradientBench

LOSSES = ["attend and excite", "syngen", "layout", "token and pixel", "entropy"]
STRONG = {
    "attend and excite": {},
    "syngen": {},
    "layout": {"end": 0.5, "threshold": 0.0, "iterations": 1},
    "token and pixel": {},
    "entropy": {},
}
"""Changes of the widgets with which every step of the first half has one update."""
WIDGETS = {
    "attend and excite": {"softmax_over": "words, end tokens and padding", "thresholds": "", "refinements": 20},
    "layout": {"step_size": 30.0, "end": 0.2, "threshold": 0.2, "iterations": 5},
    "token and pixel": {"pixel_weight": 0.05, "cells": "touched"},
    "entropy": {"step_size": 1.5},
}
"""Values of the node's widgets, where they differ from those that all losses have; thresholds are left out."""


def widgets(loss: str, **changes: Any) -> dict[str, Any]:
    """The value of the node's dynamic combo."""
    common = {"loss": loss, "step_size": 20.0, "start": 0.0, "end": 0.5, "layers": "auto"}
    return {**common, **WIDGETS.get(loss, {}), **changes}


class GuidanceBench(GradientBench):
    """A GradientBench with Attention Guidance, and ``binding``: its prompt's, with a box for each half of the picture.

    ``bound`` is the prompt that is sampled, not merged.
    """

    def __init__(self, comfy: SimpleNamespace, part: Callable, loaded: SimpleNamespace):
        super().__init__(comfy, part, loaded)
        self.binding = self.boxed(self.bound.binding)

    @staticmethod
    def boxed(binding):
        first, second = binding.entities
        binding = binding.with_entity(first.name, box=(0.0, 0.0, 0.5, 1.0))
        return binding.with_entity(second.name, box=(0.5, 0.0, 1.0, 1.0))

    def guide(self, loss: str, model=None, binding=None, **changes):
        """The node's MODEL; ``changes`` of the widgets."""
        node = self.part("nodes.guidance.guidance").SBAttentionGuidance
        with torch.inference_mode():
            return node.execute(model or self.model, binding or self.binding, widgets(loss, **changes)).args[0]

    def objective(self, loss: str, call, **changes) -> Any:
        """That of a method in a run of 50 steps of a model call's latents."""
        layers = self.part("attention.engine.layers").layers_of(self.model)
        size, steps = tuple(call.x.shape[-2:]), tuple(range(50, -1, -1))
        run = self.part("attention.engine.run").Run(layers, steps, len(call.x), *size, 8)
        return self.part("nodes.guidance.guidance").method_of(**widgets(loss, **changes)).objective(self.binding, run)

    def due(self, loss: str, call, **changes) -> Any:
        """Its update of the first step, for all latents."""
        objective = self.objective(loss, call, **changes)
        going = torch.ones(len(call.x), dtype=torch.bool)
        return self.part("attention.guidance.guidance").Due(objective, objective.update(0), going)

    def in_a_pass(self, look: Callable, **run) -> torch.Tensor:
        """A run of the bound prompt in whose first step ``look(call)`` has the pass with gradients."""
        return self.probed(lambda call, chunk, found: look(call), self.model, self.positive, self.negative, **run)


class Lines(list):
    """The lines of progress of the nodes made while they are watched; ``act(number)`` is called with each."""

    def __init__(self, part: Callable, monkeypatch: Any):
        super().__init__()
        self.act: Callable[[int], None] = lambda number: None
        monkeypatch.setattr(part("nodes.guidance.guidance"), "reporter", lambda node: self.report)

    def report(self, text: str) -> None:
        self.append(text)
        self.act(len(self))

    @property
    def updates(self) -> list[tuple[int, int]]:
        """The step and the number of each update, both from 1 on."""
        return [tuple(map(int, re.match(r"step (\d+) of \d+, update (\d+): ", line).groups())) for line in self]


def watched_moves(part: Callable, monkeypatch: Any) -> list[torch.Tensor]:
    """How far the latents of runs from here on are moved: ``(B, C, H, W)`` each time."""
    held, found = part("attention.engine.held").HeldLatent, []
    move = held.move

    def watched(self, x, shift):
        found.append(shift.clone())
        move(self, x, shift)

    monkeypatch.setattr(held, "move", watched)
    return found


def watched_totals(part: Callable, monkeypatch: Any) -> list[list[list[float]]]:
    """For each update from here on the total losses of each node: those of all latents."""
    module, found = part("attention.guidance.guidance"), []
    slope = module.slope

    def watched(*args):
        result = slope(*args)
        found.append([losses.total.tolist() for losses in result[1]])
        return result

    monkeypatch.setattr(module, "slope", watched)
    return found


class Shifting:
    """The settings of a technique that moves the latent by ``shift (B, C, H, W)`` in chosen ``steps``, or in all.

    It takes no gradients, and with ``moves_latent = False`` only has its passes. ``moves`` are the steps and noise
    levels at which it has moved.
    """

    name, differentiates, moves_latent = "shifting", True, True

    def __init__(self, part: Callable, shift: torch.Tensor | float, steps: Sequence[int] | None = None):
        self.part, self.shift, self.steps = part, shift, steps
        self.moves: list[tuple[int, float]] = []

    def check(self, layers: Sequence) -> None:
        pass

    def begin(self, run: Any) -> Any:
        settings, done = self, set()

        class Moving(self.part("attention.engine.run").Participant):
            moves_latent, gradient_rows, pending = settings.moves_latent, 1, None

            def guides(self, key, step):
                asked = settings.steps is None or step in settings.steps
                return asked and step not in done and not run.held.looking_ahead

            def guide(self, call, chunk, found):
                done.add(call.call.step)
                if settings.moves_latent:
                    settings.moves.append((call.call.step, float(call.sigma.max())))
                    self.pending = torch.zeros_like(call.x) + settings.shift

            def move_latent(self, uuid, step):
                pending, self.pending = self.pending, None
                return pending

        return Moving()


def slow_losses(
    name: str, maps: dict, grids: dict, rows: SimpleNamespace, regions: Sequence = (), weight: float = 0.05
):
    """The losses of one latent by loops, from what methods' papers and codes say.

    Args:
        name: the choice of the node.
        maps: attention ``(heads, N, T)`` of each layer, in float64.
        grids: (height, width) of each layer.
        rows: ``words`` and ``all`` that compete, the ``nouns`` and ``groups`` of entities, and for each entity's
            ``modifiers`` their rows.
        regions: for each entity whether a patch of a grid is in it, ``inside(y, x, grid)``.
        weight: of the pixel loss.
    """
    if name == "layout":
        return [
            mean(
                (1 - share(head[:, row], inside_of(region, grids[layer]))) ** 2
                for layer, heads in maps.items()
                for row in group
                for head in heads
            )
            for group, region in zip(rows.groups, regions, strict=True)
        ]
    if name == "token and pixel":
        return [
            slow_composing(maps, grids, noun, region, weight) for noun, region in zip(rows.nouns, regions, strict=True)
        ]
    attention = torch.stack([heads.mean(0) for heads in maps.values()]).mean(0)
    grid = next(iter(grids.values()))
    if name == "attend and excite":
        powers = (100 * attention[:, rows.all]).exp()
        shares = powers / powers.sum(1, keepdim=True)
        return [
            max(0.0, 1 - max(filtered(shares[:, rows.all.index(row)].tolist(), grid)))
            for noun in rows.nouns
            for row in noun
        ]
    if name == "syngen":
        return [
            slow_misbinding(attention, rows.words, noun, modifiers)
            for noun, modifiers in zip(rows.nouns, rows.modifiers, strict=True)
            if modifiers
        ]
    powers = (attention[:, rows.words] / 0.5).exp()
    shares = powers / powers.sum(1, keepdim=True)
    found = []
    for noun in rows.nouns:
        values = mean(shares[:, rows.words.index(row)] for row in noun)
        values = (values - values.min()) / (values.max() - values.min())
        found.append(sum(-2 * p * math.log(p + 1e-5) for p in (values / values.sum()).tolist()))
    return found


def mean(values: Iterable) -> Any:
    values = list(values)
    return sum(values) / len(values)


def inside_of(region: Callable, grid: tuple[int, int]) -> list[float]:
    return [region(y, x, grid) for y in range(grid[0]) for x in range(grid[1])]


def share(values: torch.Tensor, inside: Sequence[float]) -> float:
    values = values.tolist()
    return sum(value * part for value, part in zip(values, inside, strict=True)) / sum(values)


def filtered(values: list[float], grid: tuple[int, int]) -> list[float]:
    """Attend-and-Excite's filter: weights 0.211942, 0.576117, 0.211942 each way, reflected at the borders."""
    height, width = grid
    line = [weight / (1 + 2 / math.e) for weight in (1 / math.e, 1.0, 1 / math.e)]

    def place(i: int, count: int) -> int:
        return -i if i < 0 else 2 * (count - 1) - i if i >= count else i

    return [
        sum(
            line[i + 1] * line[j + 1] * values[place(y + i, height) * width + place(x + j, width)]
            for i in (-1, 0, 1)
            for j in (-1, 0, 1)
        )
        for y in range(height)
        for x in range(width)
    ]


def slow_misbinding(attention: torch.Tensor, words: list[int], noun: Sequence, modifiers: Sequence[Sequence]) -> float:
    """SynGen's loss of one noun, from ``attention (N, T)``."""

    def apart(one: int, other: int) -> float:
        p, q = ((attention[:, row] / attention[:, row].sum()).tolist() for row in (one, other))
        return sum((a - b) * math.log(a / b) for a, b in zip(p, q, strict=True)) / 2

    others = [row for row in words if row not in {*noun, *(row for modifier in modifiers for row in modifier)}]

    def from_others(rows: Sequence[int]) -> float:
        return -mean(max(apart(row, other) for row in rows) for other in others)

    return sum(
        max(apart(row, other) for row in modifier for other in noun) + (from_others(modifier) + from_others(noun)) / 2
        for modifier in modifiers
    )


def slow_composing(maps: dict, grids: dict, noun: Sequence[int], region: Callable, weight: float) -> float:
    """TokenCompose's losses of one noun: layers of the same part and grid make a group."""
    total = 0.0
    for group in {(layer.block == "middle", layer.level) for layer in maps}:
        layers = [layer for layer in maps if (layer.block == "middle", layer.level) == group]
        inside = [float(part > 0) for part in inside_of(region, grids[layers[0]])]
        for layer in layers:
            total += mean((1 - mean(share(head[:, row], inside) for head in maps[layer])) ** 2 for row in noun)
        shares = torch.stack([maps[layer].mean(0) for layer in layers]).mean(0)[:, list(noun)].sum(1).tolist()
        total += weight * -mean(
            math.log(share if part else 1 - share) for share, part in zip(shares, inside, strict=True)
        )
    return total
