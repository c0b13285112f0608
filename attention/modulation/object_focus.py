"""Object-focused attention: attention modulation (arXiv 2404.13899), object-focused masking.

Every patch of the image belongs to the entity it attends to most and may look only at the tokens of that entity and at
those of no entity. The paper names no values and no code was published. Own choices: the scores of a patch are those
of the previous step's coarse layers, smoothed, unless the binding brings regions; the penalty is finite, so that no
kernel meets a row of infinities.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

import torch

from ...parsing.binding import Binding, Entity
from ..engine.calls import Attention, Call, Layer
from ..engine.frame import Box, Sum, grid_of, on_grid
from ..engine.levels import chosen_levels
from ..engine.regions import coverage_in, regions_of
from ..engine.roles import Roles, check_rows, over_columns, roles_of
from ..engine.rows import Area, Chunk, membership
from ..engine.run import Participant, Run
from ..engine.steps import check_range, step_range
from .patches import entity_of_covered, entity_of_patches, smoothed

CLOSED = 1e4
"""Taken off the logits of what a patch may not see: as good as infinite, and within the range of half precision."""
SCORES = ("sum", "mean")
"""An entity's attention in a patch: the sum over its tokens, or their mean."""


@dataclass(frozen=True)
class FocusSettings:
    """Who may look at what.

    Entities with a mask or a box have their patches from it, and those without have none; only if no entity has one,
    patches are assigned by attention: that of the previous step, or with ``same_layer`` that of the layer itself, by
    one of ``SCORES``. A patch that no entity has ``min_share`` of is background; it sees everything, or with
    ``close_background`` no token of an entity that has patches. ``close_end`` closes the end and padding tokens to the
    patches of entities. ``penalty`` is taken off the logits.
    """

    binding: Binding
    same_layer: bool
    score: str
    min_share: float
    close_background: bool
    close_end: bool
    penalty: float
    start: float
    end: float

    name = "Object-Focused Attention"

    @property
    def fixed(self) -> bool:
        """Whether regions of the binding decide."""
        return any(_has_region(entity) for entity in self.binding.entities)

    @property
    def owners(self) -> tuple[Entity, ...]:
        """The entities that patches may belong to."""
        return tuple(entity for entity in self.binding.entities if not self.fixed or _has_region(entity))

    @property
    def others(self) -> tuple[Entity, ...]:
        """The entities that have no patches because others have masks."""
        return tuple(entity for entity in self.binding.entities if self.fixed and not _has_region(entity))

    @property
    def idle(self) -> bool:
        """Whether there is nothing to keep apart."""
        confined = len(self.binding.entities) > 1 or (self.fixed and self.close_background) or self.close_end
        return not (self.owners and confined and self.penalty > 0)

    @property
    def summary(self) -> str:
        """Who is kept apart and how, for people."""
        names = ", ".join(entity.name for entity in self.owners) or "no entity"
        if self.idle:
            return f"{names}: there is nothing to keep apart, so pictures stay as they are."
        if not self.fixed:
            return f"{names}: patches are assigned by attention."
        free = ", ".join(entity.name for entity in self.others)
        return f"{names}: patches are fixed by masks." + (f" Anywhere outside of them: {free}." if free else "")

    def check(self, layers: tuple[Layer, ...]) -> None:
        """Raise ValueError if the range is empty, or an entity has no tokens."""
        check_range(self.start, self.end)
        missing = [entity.name for entity in self.owners if not self.binding.group(entity)]
        if missing:
            raise ValueError(
                f"There are no tokens in the conditioning, and so no attention, for: {', '.join(missing)}."
            )

    def begin(self, run: Run) -> Participant:
        run.require(self.binding, self.name)
        return Participant() if self.idle else Focus(self, run)


def _has_region(entity: Entity) -> bool:
    return entity.mask is not None or entity.box is not None


def penalties(roles: Roles, owners: int, length: int, settings: FocusSettings) -> torch.Tensor:
    """What each patch pays for each row of the conditioning: ``(owners + 1, length)``, one line for the patches of each
    of the first ``owners`` groups, and the last for the background."""
    grouped = {position for group in roles.groups for position in group}
    table = torch.zeros(owners + 1, length)
    for line, group in enumerate(roles.groups[:owners]):
        table[line, sorted(grouped - set(group))] = -settings.penalty
        if settings.close_end:
            table[line, list(roles.end)] = -settings.penalty
    if settings.close_background:
        free = {position for group in roles.groups[owners:] for position in group}
        table[-1, sorted(grouped - free)] = -settings.penalty
    return table


class Focus(Participant):
    """Assigns the patches and closes the tokens of other entities to them, in one run."""

    needs_places = True

    def __init__(self, settings: FocusSettings, run: Run):
        self.settings = settings
        self.run = run
        self.roles = roles_of(settings.binding, (*settings.owners, *settings.others))
        self.cross_layers = frozenset(run.layers)
        self.steps = step_range(settings.start, settings.end, run.steps)
        self.from_steps = not settings.fixed and not settings.same_layer
        self.levels = chosen_levels("auto", run.layers, run.height, run.width)
        self.regions = regions_of(settings.owners, (run.height, run.width), run.batch) if settings.fixed else None
        self.lock = threading.Lock()
        self.step: int | None = None
        self.sums: dict[Area | None, Sum] = {}
        self.scores: dict[Area | None, torch.Tensor] = {}
        self.biases: dict[tuple, torch.Tensor] = {}
        self.groups: dict[tuple, torch.Tensor] = {}
        self.penalties: dict[tuple, torch.Tensor] = {}

    def wants(self, call: Call) -> bool:
        first = self.steps.start - 1 if self.from_steps else self.steps.start
        return first <= call.step < self.steps.stop and bool(call.of(self.settings.binding.key))

    def bias_cross(self, call: Call, attention: Attention):
        attention.check_whole()
        with self.lock:
            if self.step != call.step:
                self._next_step(call.step)
        for chunk in call.of(self.settings.binding.key):
            check_rows(self.settings.binding, chunk.cond.length)
            if self.from_steps and chunk.first and attention.layer.level in self.levels:
                self._collect(call, attention, chunk)
            if call.step in self.steps:
                yield chunk, self._bias(call, attention, chunk)

    def _next_step(self, step: int) -> None:
        """What was collected in the step before becomes the scores of this one."""
        if self.sums:
            self.scores = {area: smoothed(collected.mean()) for area, collected in self.sums.items()}
        self.step, self.sums = step, {}
        if self.regions is None:
            self.biases = {}

    def _collect(self, call: Call, attention: Attention, chunk: Chunk) -> None:
        scores = self._scores(call, attention, chunk)
        area = chunk.cond.area
        height, width = (self.run.height, self.run.width) if area is None else area[:2]
        with self.lock:
            collected = self.sums.setdefault(area, Sum(grid_of(height, width, attention.layer.level)))
            collected.add(scores, Box(0, 0, *collected.grid))

    def _scores(self, call: Call, attention: Attention, chunk: Chunk) -> torch.Tensor:
        """``(rows, G, h, w)``: how much the patches attend to each entity, undisturbed by any mask."""
        groups = self._groups(*_columns(call, attention, chunk))
        return attention.probabilities(chunk, groups).transpose(1, 2).unflatten(2, attention.grid)

    def _bias(self, call: Call, attention: Attention, chunk: Chunk) -> torch.Tensor:
        """``(rows, N, T)``; made once for all layers of a grid, for all latents, where they need not look for
        themselves."""
        area, columns = chunk.cond.area, _columns(call, attention, chunk)
        scores, share = self.scores.get(area), self.settings.min_share
        if self.regions is None and scores is None:
            return self._penalties(*columns)[entity_of_patches(self._scores(call, attention, chunk), share)]
        key = (area, attention.grid, columns)
        if key not in self.biases:
            if self.regions is None:
                of_patches = entity_of_patches(on_grid(scores.to(attention.k.device), attention.grid), share)
            else:
                regions = self.regions.to(attention.k.device)
                of_patches = entity_of_covered(coverage_in(regions, area, attention.grid), share)
            self.biases[key] = self._penalties(*columns)[of_patches]
        return self.biases[key] if call.latents is None else self.biases[key][list(call.latents)]

    def _groups(self, *columns) -> torch.Tensor:
        if columns not in self.groups:
            mean = self.settings.score == "mean"
            groups = [(group, 1 / len(group) if mean else 1.0) for group in self.roles.groups]
            self.groups[columns] = membership(groups, *columns)
        return self.groups[columns]

    def _penalties(self, *columns) -> torch.Tensor:
        if columns not in self.penalties:
            length, context_rows, count, device = columns
            self.penalties[columns] = over_columns(self.table(length), context_rows, count).to(device)
        return self.penalties[columns]

    def table(self, length: int) -> torch.Tensor:
        """What patches pay, as ``penalties`` has it."""
        return penalties(self.roles, len(self.settings.owners), length, self.settings)


def _columns(call: Call, attention: Attention, chunk: Chunk) -> tuple[int, int, int, torch.device]:
    """What the key columns of a chunk are: its own rows, those it was repeated to, all columns; and their device."""
    return chunk.cond.length, call.context_rows, attention.k.shape[1], attention.k.device
