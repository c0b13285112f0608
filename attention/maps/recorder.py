"""Recording attention while a sampler runs, summed up on the way: DAAM (Tang et al. 2023, arXiv 2210.04885), section 3.

Differences from the published code: layers are kept apart by resolution and chosen by the user instead of all but the
coarsest; rows are found by the binding's key instead of "the second half"; sums are divided by what went into them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import torch

from ...parsing.binding import Binding
from ..engine.calls import Attention, Call, Layer
from ..engine.frame import Box, Sum, affinity_on_grid, box_of, grid_of
from ..engine.levels import LEVELS, chosen_levels
from ..engine.probabilities import mean_probabilities
from ..engine.rows import Area, Chunk, membership
from ..engine.run import Participant, Run, not_given
from ..engine.steps import check_range, step_range
from .live import Live, StepMaps
from .recording import AttentionMaps, Grid, Recording
from .targets import Target


@dataclass(frozen=True)
class RecorderSettings:
    """What to record.

    ``keep_every`` is None for the mean over the steps from ``start`` to ``end`` (fractions of the run), or k to keep
    every k-th of them; ``point`` is the (x, y) in 0..1 of the patch whose self-attention is recorded; ``affinity``
    whether that of all patches is, as its mean over the steps; ``on_step``, where there is one, gets the maps of every
    recorded step when it is over.
    """

    binding: Binding
    targets: tuple[Target, ...]
    resolution: str
    start: float
    end: float
    keep_every: int | None
    point: tuple[float, float] | None
    affinity: bool
    maps: AttentionMaps
    what: str
    on_step: Callable[[StepMaps], None] | None = None

    name = "Record Attention"

    def check(self, layers: tuple[Layer, ...]) -> None:
        """Raise ValueError if there are no steps to record, or no layers at the resolution."""
        check_range(self.start, self.end)
        present = {layer.level for layer in layers}
        if LEVELS.get(self.resolution, min(present)) not in present:
            names = ", ".join(name for name, level in LEVELS.items() if level in present)
            raise ValueError(
                f'This model has no attention layers at resolution "{self.resolution}". It has some at: {names}.'
            )

    def begin(self, run: Run) -> Recorder:
        return Recorder(self, run)


class Recorder(Participant):
    """Sums up attention maps in one run; what it holds does not grow with the steps unless they are kept."""

    needs_places = True

    def __init__(self, settings: RecorderSettings, run: Run):
        self.settings = settings
        self.run = run
        self.levels = chosen_levels(settings.resolution, run.layers, run.height, run.width)
        self.cross_layers = frozenset(layer for layer in run.layers if layer.level in self.levels)
        self.self_layers = self.cross_layers if settings.point is not None or settings.affinity else frozenset()
        self.steps = frozenset(step_range(settings.start, settings.end, run.steps)[:: settings.keep_every or 1])
        self.recorded: set[int] = set()
        self.sums: dict[tuple[int | None, int, str], Sum] = {}
        self.affinities: dict[int, Sum] = {}
        self.groups: dict[tuple, torch.Tensor] = {}
        self.live = Live(settings.on_step, run.steps) if settings.on_step is not None else None
        self.lock = threading.Lock()

    def wants(self, call: Call) -> bool:
        return call.step in self.steps and bool(call.first_of(self.settings.binding.key))

    def observe_cross(self, call: Call, attention: Attention) -> None:
        attention.check_whole()
        for chunk in call.first_of(self.settings.binding.key):
            groups = self._groups(chunk.cond.length, call.context_rows, attention.k)
            found = attention.probabilities(chunk, groups)
            self._add("cross", call.step, attention, found, chunk.cond.area)

    def observe_self(self, call: Call, attention: Attention) -> None:
        patches = attention.grid[0] * attention.grid[1]
        if attention.q.shape[1] != patches or attention.k.shape[1] != patches:
            raise ValueError(
                f"Another node has tiled or merged the self-attention of layer {attention.layer.name}, as HyperTile "
                "and Tome Patch Model do, so there is no telling what a patch attends to. Record a coarser "
                "resolution, or take that node off this model."
            )
        for chunk in call.first_of(self.settings.binding.key):
            if self.settings.point is not None:
                self._observe_point(call, attention, chunk)
            if self.settings.affinity:
                self._observe_affinity(attention, chunk)

    def _observe_point(self, call: Call, attention: Attention, chunk: Chunk) -> None:
        height, width = attention.grid
        level = attention.layer.level
        grid = grid_of(self.run.height, self.run.width, level)
        x, y = self.settings.point
        box = box_of(chunk.cond.area, grid, level)
        row, column = min(int(y * grid[0]), grid[0] - 1) - box.top, min(int(x * grid[1]), grid[1] - 1) - box.left
        if not (0 <= row < box.height and 0 <= column < box.width):
            return
        query = row * height // box.height * width + column * width // box.width
        q = attention.q[chunk.rows, query : query + 1]
        found = mean_probabilities(q, attention.k[chunk.rows], attention.heads).transpose(1, 2)
        found = found * (height * width / (box.height * box.width))  # resized, it still adds up to 1
        self._add("self", call.step, attention, found, chunk.cond.area)

    def _observe_affinity(self, attention: Attention, chunk: Chunk) -> None:
        level = attention.layer.level
        grid = grid_of(self.run.height, self.run.width, level)
        if chunk.cond.area is not None:
            raise ValueError(
                "Affinity is recorded of whole pictures only, and the bound conditioning has an area. Switch affinity "
                "off, or take the area off the conditioning."
            )
        found = mean_probabilities(attention.q[chunk.rows], attention.k[chunk.rows], attention.heads)
        found = affinity_on_grid(found, attention.grid, grid)
        with self.lock:
            patches = found.shape[-2:]
            self.affinities.setdefault(level, Sum(tuple(patches))).add(found, Box(0, 0, *patches))

    def finish(self, latent: torch.Tensor) -> None:
        if self.live is not None:
            self.live.end()
        self.settings.maps.add(latent, self._problem() or self._recording())

    def _groups(self, length: int, context_rows: int, k: torch.Tensor) -> torch.Tensor:
        """The matrix that sums up the tokens of the targets, made once for each shape."""
        beyond = [target.label for target in self.settings.targets if target.positions[-1] >= length]
        if beyond:
            raise ValueError(
                f"The conditioning that carries this binding has only {length} rows, too few for: {', '.join(beyond)}. "
                "Connect the conditioning that came with the BINDING."
            )
        shape = (length, context_rows, k.shape[1], k.device)
        if shape not in self.groups:
            groups = [(target.positions, target.weight) for target in self.settings.targets]
            self.groups[shape] = membership(groups, *shape)
        return self.groups[shape]

    def _add(self, kind: str, step: int, attention: Attention, found: torch.Tensor, area: Area | None) -> None:
        """Add the probabilities ``(latents, N, labels)`` of one layer and chunk."""
        level = attention.layer.level
        grid = grid_of(self.run.height, self.run.width, level)
        maps = found.transpose(1, 2).unflatten(2, attention.grid)
        kept = None if self.settings.keep_every is None else step
        with self.lock:
            self.recorded.add(step)
            self.sums.setdefault((kept, level, kind), Sum(grid)).add(maps, box_of(area, grid, level))
            if self.live is not None and kind == "cross":
                self.live.add(step, level, grid, maps, box_of(area, grid, level))

    def _recording(self) -> Recording:
        settings, run = self.settings, self.run
        labels = [target.label for target in settings.targets]
        entities = [target.entity for target in settings.targets]
        kinds = ["cross"]
        if settings.point is not None:
            labels.append("point ({:g}, {:g})".format(*settings.point))
            entities.append("")
            kinds.append("self")
        kept = [None] if settings.keep_every is None else sorted(self.recorded)
        grids = tuple(
            Grid(
                level,
                tuple(layer.name for layer in run.layers if layer.level == level),
                torch.stack(
                    [torch.cat([self.sums[step, level, kind].mean().cpu() for kind in kinds], dim=1) for step in kept]
                ),
                self.affinities[level].mean().cpu() if settings.affinity else None,
            )
            for level in sorted(self.levels)
        )
        return Recording(
            prompt=settings.binding.prompt,
            labels=tuple(labels),
            entities=tuple(entities),
            latent_size=(run.height, run.width),
            cell=run.cell,
            steps=tuple(tuple(sorted(self.recorded)) if step is None else (step,) for step in kept),
            sigmas=run.sigmas,
            grids=grids,
            what=settings.what,
        )

    def _problem(self) -> str | None:
        """Why there is nothing to show, if so."""
        settings = self.settings
        if not self.run.gives(settings.binding):
            return f"Nothing was recorded: {not_given(settings.binding)}"
        if not self.recorded:
            return (
                f"Nothing was recorded between {settings.start:g} and {settings.end:g} of the steps: the bound "
                "conditioning was not used there (a timestep range, or steps skipped by a cache). Choose another "
                "range."
            )
        kinds = 1 if settings.point is None else 2
        kept = 1 if settings.keep_every is None else len(self.recorded)
        if len(self.sums) < kinds * kept * len(self.levels):
            return "Nothing was recorded: the point for self-attention lies outside the area of the bound conditioning."
        return None
