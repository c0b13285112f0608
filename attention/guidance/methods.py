"""The methods that guide the latent by losses on attention maps: which layers they look at, how far and how often they
move, and where that differs from what was published.

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
from ..engine.roles import word_rows
from ..engine.rows import Area
from ..engine.run import Layer, Run
from ..engine.steps import step_range
from ..maps.recorder import LEVELS, chosen_levels
from ..modulation.patches import cells_of_box, coverage_in, regions_of, resized_cells
from ..token_merge.binding_losses import composite_maps, entropy_loss, strength
from ..token_merge.refinement import PUBLISHED_LAYERS
from .losses import Related, misbinding, neglect, outside, pixel_loss, token_loss

ALL_ROWS, WORDS = "words, end tokens and padding", "words"


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


class _Objective:
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
class AttendAndExcite(Method):
    """Every noun is to have a patch that attends to it (arXiv 2301.13826).

    ``thresholds`` are (part of the run, attention that the most neglected noun is to reach), with up to
    ``refinements`` updates for each of them. As in the code, the step size falls with a square root.
    """

    softmax_over: str
    thresholds: tuple[tuple[float, float], ...]
    refinements: int

    name = "Attend-and-Excite"

    def objective(self, binding: Binding, run: Run) -> Objective:
        return _Exciting(self, binding, run)


class _Exciting(_Objective):
    name = AttendAndExcite.name

    def __init__(self, method: AttendAndExcite, binding: Binding, run: Run):
        super().__init__(method, binding, run)
        self.targets = {int(round(at * run.steps, 6)): 1 - reached for at, reached in method.thresholds}
        rows = list(word_rows(self.binding))
        if method.softmax_over == ALL_ROWS:
            starts = {row for tokens in binding.encoders for row in tokens.of_kind("start")}
            # The published code leaves out the last row too.
            rows = [row for row in range(binding.length - 1) if row not in starts]
        self.rows = rows
        self.subjects = [self.rows.index(row) for noun in self.nouns() for row in noun]

    def update(self, step: int) -> Update | None:
        if step not in self.steps:
            return None
        size = self.method.step_size * math.sqrt(1 - 0.5 * step / max(1, self.run.steps - 1))
        if step not in self.targets:
            return Update(size)
        return Update(size, self.method.refinements + 1, self.targets[step], settling=True)

    def losses(self, attended: Attended) -> Losses:
        grid = attended.grids[next(iter(self.layers))]
        each = neglect(attended.mean(self.layers, self.rows), grid, self.subjects)
        return Losses(each, each.amax(1))


@dataclass(frozen=True)
class SynGen(Method):
    """Each attribute's map is to be its noun's, and unlike those of the other words (arXiv 2306.08877)."""

    name = "SynGen"

    def entities(self, binding: Binding) -> tuple[Entity, ...]:
        found = tuple(entity for entity in super().entities(binding) if len(entity.phrases) > 1)
        if not found:
            raise ValueError(
                f'SynGen binds attributes to nouns, and no entity of "{binding.text}" has any. Use another method, or '
                "name attributes in the node the BINDING comes from."
            )
        return found

    def objective(self, binding: Binding, run: Run) -> Objective:
        return _Binding(self, binding, run)


class _Binding(_Objective):
    name = SynGen.name

    def __init__(self, method: SynGen, binding: Binding, run: Run):
        super().__init__(method, binding, run)
        if binding.key in run.merged:
            raise ValueError(
                "SynGen brings attributes to their nouns, and Semantic Token Merge has merged them already. Use one of "
                "the two, or another loss."
            )
        self.rows = list(word_rows(self.binding))

        def places(phrase) -> tuple[int, ...]:
            return tuple(self.rows.index(row) for row in binding.positions([phrase]))

        self.related = [
            Related(places(entity.noun), tuple(filter(None, map(places, entity.phrases[1:]))))
            for entity in method.entities(binding)
        ]

    def losses(self, attended: Attended) -> Losses:
        each = misbinding(attended.mean(self.layers, self.rows), self.related)
        return Losses(each, each.sum(1))


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


class _InLayout(_Objective):
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


class _Composing(_Objective):
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


@dataclass(frozen=True)
class Entropy(Method):
    """Each noun's map is to be compact: ToMe's entropy loss (arXiv 2411.07132), for the latent alone."""

    name = "entropy loss"

    def objective(self, binding: Binding, run: Run) -> Objective:
        return _Compact(self, binding, run)


class _Compact(_Objective):
    name = Entropy.name

    def update(self, step: int) -> Update | None:
        return Update(self.method.step_size * strength(step, self.run.steps)) if step in self.steps else None

    def losses(self, attended: Attended) -> Losses:
        rows = list(word_rows(self.binding))
        columns = [[rows.index(row) for row in noun] for noun in self.nouns()]
        each = entropy_loss(composite_maps(attended.mean(self.layers, rows), columns))
        return Losses(each, each.sum(1))
