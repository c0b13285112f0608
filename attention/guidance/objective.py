"""What methods of guidance have in common: what they look at, how far and how often they move, and their layers.

A method's settings become an ``Objective`` for one binding and run. Step sizes are the published ones; ``scale`` brings
them from the latents of the published code to ComfyUI's, which grow with the noise level.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch

from ...parsing.binding import Binding, Entity
from ..engine.calls import Layer
from ..engine.levels import LEVELS, chosen_levels
from ..engine.regions import cells_of_box, coverage_in, regions_of
from ..engine.rows import Area
from ..engine.run import Run
from ..engine.steps import step_range
from ..token_merge.refinement import PUBLISHED_LAYERS


@dataclass(frozen=True)
class Attended:
    """The attention ``(B, heads, N, T)`` of each layer to all rows of the conditioning, and the layers' grids; the area
    of the picture that it is in, and which of the run's latents it is of."""

    maps: Mapping[Layer, torch.Tensor]
    grids: Mapping[Layer, tuple[int, int]]
    area: Area | None
    latents: Sequence[int]

    def mean(self, layers: Sequence[Layer], rows: Sequence[int]) -> torch.Tensor:
        """``(B, N, len(rows))``: the mean over heads and layers of one grid."""
        return torch.stack([self.maps[layer][..., list(rows)].mean(1) for layer in layers]).mean(0)


class Update(NamedTuple):
    """What is asked of one step: up to ``most`` updates of this size while the loss is above the target. With
    ``settling`` there is one more when it has been reached, and at least one."""

    size: float
    most: int = 1
    target: float = -math.inf
    settling: bool = False


class Losses(NamedTuple):
    """``each (B, K)`` to be shown, ``total (B,)`` to go down."""

    each: torch.Tensor
    total: torch.Tensor


class Objective(Protocol):
    """One method's part in one run."""

    name: str
    layers: tuple[Layer, ...]
    """In the order of the network, which is that of all sums over them."""

    def update(self, step: int) -> Update | None:
        """What is to be done in a step of the run; None for nothing."""

    def scale(self, sigma: torch.Tensor) -> torch.Tensor:
        """``(B,)``: how much longer a step in ComfyUI's latents is than the published one."""

    def losses(self, attended: Attended) -> Losses: ...


@dataclass(frozen=True)
class Method:
    """What all methods have: the length of a step, the part of the run it acts in, and at which resolution."""

    step_size: float
    start: float
    end: float
    resolution: str

    def check(self, binding: Binding, layers: tuple[Layer, ...]) -> None:
        """Raise ValueError if there is nothing that this method could act on."""
        if self.start >= self.end:
            raise ValueError(f"start ({self.start:g}) must be below end ({self.end:g}).")
        levels = {layer.level for layer in layers}
        if self.resolution in LEVELS and LEVELS[self.resolution] not in levels:
            names = ", ".join(name for name, level in LEVELS.items() if level in levels)
            raise ValueError(f"This model has no attention layers at {self.resolution}. It has some at: {names}.")
        missing = [entity.name for entity in self.entities(binding) if not binding.positions([entity.noun])]
        if missing:
            raise ValueError(f"There are no tokens in the conditioning for: {', '.join(missing)}.")

    def entities(self, binding: Binding) -> tuple[Entity, ...]:
        """Those it acts on."""
        if not binding.entities:
            raise ValueError(
                f'There are no entities in "{binding.text}". Name some in the node the BINDING comes from.'
            )
        return binding.entities


class CommonObjective:
    """Common to all: the layers of one grid, and the published latents of constant variance."""

    def __init__(self, method: Method, binding: Binding, run: Run):
        self.method, self.binding, self.run = method, binding, run
        self.steps = step_range(method.start, method.end, run.steps)
        self.layers = self.chosen_layers()

    def chosen_layers(self) -> tuple[Layer, ...]:
        """Published: all layers on a grid of 16 x 16 of Stable Diffusion. For SDXL those three that ToMe takes."""
        layers, run = self.run.layers, self.run
        published = tuple(layer for layer in layers if layer.key in PUBLISHED_LAYERS)
        if self.method.resolution == "auto" and len(published) == len(PUBLISHED_LAYERS):
            return published
        levels = chosen_levels(self.method.resolution, layers, run.height, run.width)
        return tuple(layer for layer in layers if layer.level in levels)

    def update(self, step: int) -> Update | None:
        return Update(self.method.step_size) if step in self.steps else None

    def scale(self, sigma: torch.Tensor) -> torch.Tensor:
        return 1 + sigma**2

    def nouns(self) -> list[tuple[int, ...]]:
        """The rows of each noun; where its entity's tokens are merged, that of the composite."""
        merged = self.binding.key in self.run.merged
        entities = self.method.entities(self.binding)
        rows = [self.binding.positions([entity.noun]) for entity in entities]
        return [each[:1] if merged and len(of.phrases) > 1 else each for each, of in zip(rows, entities, strict=True)]

    def regions(self, attended: Attended, layer: Layer) -> torch.Tensor:
        """``(B, S, N)``: how much of each of a layer's patches lies in each entity's region."""
        entities = self.method.entities(self.binding)
        grid, latents = attended.grids[layer], list(attended.latents)
        if attended.area is None and all(entity.mask is None for entity in entities):
            cells = torch.stack([cells_of_box(entity.box, grid) for entity in entities])
            found = cells.expand(len(latents), -1, -1, -1)
        else:
            found = regions_of(entities, (self.run.height, self.run.width), self.run.batch)[latents]
            found = coverage_in(found, attended.area, grid)
        return found.flatten(2).to(attended.maps[layer])


@dataclass(frozen=True)
class WithRegions(Method):
    """A method for entities that have a mask or a box; others are left alone."""

    def entities(self, binding: Binding) -> tuple[Entity, ...]:
        found = tuple(each for each in super().entities(binding) if each.mask is not None or each.box is not None)
        if not found:
            raise ValueError(
                f"{self.name} draws entities into their regions, and no entity of the BINDING has one. Give them masks "
                "or boxes: with Assign Mask, Masks from Boxes, or another node of entity masks."
            )
        return found
