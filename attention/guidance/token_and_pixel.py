"""The token and pixel losses of TokenCompose (Wang et al. 2023, arXiv 2312.03626), for guidance."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ...parsing.binding import Binding
from ..engine.calls import Layer
from ..engine.regions import resized_cells
from ..engine.run import Run
from ..token_merge.refinement import PUBLISHED_LAYERS
from .losses import pixel_loss, token_loss
from .objective import Attended, CommonObjective, Losses, Objective, WithRegions


@dataclass(frozen=True)
class TokenAndPixel(WithRegions):
    """Each noun's attention is to lie in its region, and to fill it: the losses that TokenCompose (arXiv 2312.03626)
    and CoMat (arXiv 2404.03653) train with, here for guidance, with a step size of our own.

    ``resized`` for patches that are in a region by the published resizing of masks, else all that it touches are.
    """

    pixel_weight: float
    resized: bool

    name = "token and pixel losses"

    def objective(self, binding: Binding, run: Run) -> Objective:
        return _Composing(self, binding, run)


class _Composing(CommonObjective):
    name = TokenAndPixel.name

    def chosen_layers(self) -> tuple[Layer, ...]:
        """Published: the middle and all of the decoder. Here without its finest level, which takes most of the time."""
        layers = super().chosen_layers()
        if self.method.resolution != "auto" or {layer.key for layer in layers} == PUBLISHED_LAYERS:
            return layers
        finest = min(layer.level for layer in self.run.layers)
        return tuple(each for each in self.run.layers if each.block != "input" and each.level > finest)

    def losses(self, attended: Attended) -> Losses:
        nouns = self.nouns()
        found = [0.0] * len(nouns)
        for middle, level in sorted({(layer.block == "middle", layer.level) for layer in self.layers}):
            group = [each for each in self.layers if (each.block == "middle", each.level) == (middle, level)]
            regions = self.cells(attended, group[0])
            for place, noun in enumerate(nouns):
                maps = [attended.maps[layer][..., list(noun)] for layer in group]
                region = regions[:, place].to(maps[0])
                found[place] = found[place] + sum(token_loss(each, region) for each in maps)
                mean = torch.stack([each.mean(1) for each in maps]).mean(0)
                found[place] = found[place] + self.method.pixel_weight * pixel_loss(mean, region)
        each = torch.stack(found, 1)
        return Losses(each, each.mean(1))

    def cells(self, attended: Attended, layer: Layer) -> torch.Tensor:
        """``(B, S, N)``: whether a layer's patches are in each entity's region."""
        if not self.method.resized:
            return self.regions(attended, layer) > 0
        entities, run = self.method.entities(self.binding), self.run
        found = resized_cells(entities, (run.height, run.width), run.cell, attended.area, attended.grids[layer])
        found = found.expand(run.batch, -1, -1, -1)[list(attended.latents)]
        return found.flatten(2).to(attended.maps[layer].device)
