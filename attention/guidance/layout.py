"""Layout guidance (Chen et al. 2023, arXiv 2304.03373)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ...parsing.binding import Binding
from ..engine.calls import Layer
from ..engine.run import Run
from ..token_merge.refinement import PUBLISHED_LAYERS
from .losses import outside
from .objective import Attended, CommonObjective, Losses, Objective, Update, WithRegions


@dataclass(frozen=True)
class Layout(WithRegions):
    """Each entity's attention is to lie in its mask or box (arXiv 2304.03373).

    Up to ``iterations`` updates in a step while the loss is above ``threshold``. The published code gives up for good
    once it is below; here later steps look again.
    """

    iterations: int
    threshold: float

    name = "layout guidance"

    def objective(self, binding: Binding, run: Run) -> Objective:
        return _InLayout(self, binding, run)


class _InLayout(CommonObjective):
    name = Layout.name

    def chosen_layers(self) -> tuple[Layer, ...]:
        """Published: the middle of the network and the first block of the decoder with attention."""
        layers = super().chosen_layers()
        if self.method.resolution != "auto" or {layer.key for layer in layers} == PUBLISHED_LAYERS:
            return layers
        coarsest = max(layer.level for layer in self.run.layers if layer.block == "output")
        return tuple(
            layer
            for layer in self.run.layers
            if layer.block == "middle" or (layer.block == "output" and layer.level == coarsest)
        )

    def update(self, step: int) -> Update | None:
        method = self.method
        return Update(method.step_size, method.iterations, method.threshold) if step in self.steps else None

    def scale(self, sigma: torch.Tensor) -> torch.Tensor:
        """Published for the very latents that ComfyUI has, with a step of the noise level squared."""
        return sigma**2

    def losses(self, attended: Attended) -> Losses:
        regions = [self.regions(attended, layer) for layer in self.layers]
        rows = [self.binding.group(entity) for entity in self.method.entities(self.binding)]
        each = outside([attended.maps[layer] for layer in self.layers], regions, rows)
        return Losses(each, each.mean(1))
