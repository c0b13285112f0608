"""The loop of a training: schedule, accumulate, clip, step.

A *position* numbers the micro batches of the whole training, those of all processes together. All that is drawn by
chance follows from it, so that a training that goes on makes the same bits as one that was never interrupted, and
several processes make the steps that one makes with a batch that is larger by their number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.distributed
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from .schedule import rate_factor

Losses = dict[str, torch.Tensor]
LOSS = "loss"
"""The one of a stage's losses that is differentiated; the others are told."""


@dataclass(frozen=True)
class Optimisation:
    """AdamW's settings, ``schedule`` one of ``SCHEDULES``, ``warm_up`` in steps, ``clip`` the largest norm of the
    gradient (0 for none)."""

    rate: float
    schedule: str = "constant"
    warm_up: int = 0
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 1e-2
    clip: float = 1.0


@dataclass(frozen=True)
class Stage:
    """One optimiser's part of each step: the ``losses`` at a position, all ``()``, by which ``module`` is trained."""

    name: str
    module: nn.Module
    losses: Callable[[int], Losses]
    optimisation: Optimisation


class Done(NamedTuple):
    """A step that has been made, counted from 1, and its losses, means over accumulation and processes, named
    ``stage loss``."""

    step: int
    losses: dict[str, float]


class _Computed(nn.Module):
    """A stage's losses as a module, as DistributedDataParallel wants it."""

    def __init__(self, stage: Stage):
        super().__init__()
        self.trained = stage.module
        self.losses = stage.losses

    def forward(self, position: int) -> Losses:
        return self.losses(position)


def process_count() -> int:
    """How many processes train together."""
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_world_size() if distributed else 1


class Loop:
    """The steps of a training, and the state from which it goes on."""

    def __init__(self, stages: Sequence[Stage], steps: int, accumulate: int = 1):
        self.stages, self.steps, self.accumulate, self.step = stages, steps, accumulate, 0
        self.ranks = process_count()
        self.rank = torch.distributed.get_rank() if self.ranks > 1 else 0
        self.computed: list[nn.Module] = [_Computed(stage) for stage in stages]
        if self.ranks > 1:
            self.computed = [DistributedDataParallel(each) for each in self.computed]
        self.optimisers = [
            torch.optim.AdamW(
                stage.module.parameters(),
                stage.optimisation.rate,
                stage.optimisation.betas,
                weight_decay=stage.optimisation.weight_decay,
            )
            for stage in stages
        ]

    def run(self, ready: Callable[[], AbstractContextManager] = nullcontext) -> Iterator[Done]:
        """Make the steps that are left; each within ``ready()``.

        Raises:
            ValueError: a loss is no finite number; the weights are then those of the step before.
        """
        while self.step < self.steps:
            with ready():
                losses = self._losses_of_a_step()
            self.step += 1
            yield Done(self.step, losses)

    def _losses_of_a_step(self) -> dict[str, float]:
        told: dict[str, float] = {}
        for stage, computed, optimiser in zip(self.stages, self.computed, self.optimisers, strict=True):
            for other in self.stages:
                other.module.requires_grad_(other is stage)
            optimiser.zero_grad(set_to_none=True)
            losses = self._means(self._gradients(computed))
            self._check(stage, losses)
            told |= {" ".join(filter(None, (stage.name, name))): float(value) for name, value in losses.items()}
        # Only now, as an interrupt in a later stage's passes must not leave the step half made.
        for stage, optimiser in zip(self.stages, self.optimisers, strict=True):
            settings = stage.optimisation
            stage.module.requires_grad_(True)
            for group in optimiser.param_groups:
                group["lr"] = settings.rate * rate_factor(settings.schedule, self.step, self.steps, settings.warm_up)
            nn.utils.clip_grad_norm_(stage.module.parameters(), settings.clip or math.inf)
            optimiser.step()
        return told

    def _gradients(self, computed: nn.Module) -> dict[str, list[torch.Tensor]]:
        """Add up the gradients of the step's micro batches; the losses of each."""
        told: dict[str, list[torch.Tensor]] = {}
        for micro in range(self.accumulate):
            position = (self.step * self.accumulate + micro) * self.ranks + self.rank
            last = micro == self.accumulate - 1
            with nullcontext() if last or self.ranks == 1 else computed.no_sync():
                losses = computed(position)
                (losses[LOSS] / self.accumulate).backward()
            for name, loss in losses.items():
                told.setdefault(name, []).append(loss.detach().float())
        return told

    def _means(self, told: dict[str, list[torch.Tensor]]) -> Losses:
        """Over micro batches and processes; those in which a loss other than ``LOSS`` has no number do not count."""
        values = torch.stack([torch.stack(each) for each in told.values()])
        counted = ~values.isnan()
        counted[list(told).index(LOSS)] = True
        sums = torch.stack([values.where(counted, 0.0).sum(1), counted.to(values).sum(1)])
        if self.ranks > 1:
            torch.distributed.all_reduce(sums)
        return dict(zip(told, sums[0] / sums[1], strict=True))

    def _check(self, stage: Stage, losses: Losses) -> None:
        if not torch.isfinite(losses[LOSS]):
            raise ValueError(
                f"In step {self.step + 1} the {stage.name or 'training'} loss is {float(losses[LOSS])}, so the "
                "training was stopped there; what was trained before is kept. Begin again under another name with a "
                "lower learning rate."
            )

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on but the settings."""
        return {
            "step": self.step,
            "modules": [stage.module.state_dict() for stage in self.stages],
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step = state["step"]
        for stage, optimiser, module, of_optimiser in zip(
            self.stages, self.optimisers, state["modules"], state["optimisers"], strict=True
        ):
            stage.module.load_state_dict(module)
            optimiser.load_state_dict(of_optimiser)
