"""The loop of the stages that train averaged weights: clock, optimisers, checkpoints, and what is said of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from .parallel import Ranks
from .progress import Checkpoint, Clock, learning_rate_factor, save_atomically

AVERAGE_DECAY = 0.999
SAVE_EVERY = 100

Losses = Callable[[np.random.Generator, float], tuple[torch.Tensor, Mapping[str, torch.Tensor]]]
"""The loss to go down, and those to be told of by name, of one step: given the numbers of chance, and how much of the
time is over."""


@dataclass(frozen=True)
class Stage:
    """``parameters`` are averaged and, where they require gradients, trained; ``optimisers`` have them, with the rates
    that each begins with. ``parts`` are what else a checkpoint has to hold, ``beside`` what is saved with the averages
    as it is."""

    name: str
    parameters: Mapping[str, torch.nn.Parameter]
    optimisers: Sequence[torch.optim.Optimizer]
    rates: Sequence[float]
    parts: Mapping[str, torch.nn.Module]
    beside: Mapping[str, torch.Tensor] = field(default_factory=dict)


def split_parameters(unet: torch.nn.Module) -> tuple[list, list]:
    """Inner weight matrices, and the rest: vectors, the first and the last layer."""
    matrices, others = [], []
    for name, parameter in unet.named_parameters():
        outer = name.startswith(("input_blocks.0.", "out.", "time_embed."))
        (others if parameter.ndim < 2 or outer else matrices).append(parameter)
    return matrices, others


@torch.no_grad()
def update_average(average: list[torch.Tensor], parameters: list[torch.Tensor], step: int) -> None:
    """Exponential moving average of the weights, of shorter memory in the first steps."""
    decay = min(AVERAGE_DECAY, (1.0 + step) / (10.0 + step))
    torch._foreach_lerp_(average, parameters, 1.0 - decay)


def run(stage: Stage, losses: Losses, ranks: Ranks, folder: Path, budget: float, seed: int) -> None:
    """Train for ``budget`` seconds, going on from the checkpoint where there is one; the averages become NAME.pt."""
    average = {name: parameter.detach().clone() for name, parameter in stage.parameters.items()}
    parts = {**stage.parts, "average": average, "optimisers": tuple(stage.optimisers)}
    checkpoint = Checkpoint(folder / f"{stage.name}.checkpoint.pt", **parts)
    step, spent = checkpoint.restore()
    rng = np.random.default_rng((seed, ranks.rank, step))
    torch.manual_seed(seed + 1000 * step + ranks.rank)
    clock, progress, told = Clock(budget, spent), spent / budget, []
    while progress < 1.0:
        loss, named = losses(rng, progress)
        trained = [parameter for parameter in stage.parameters.values() if parameter.requires_grad]
        for parameter in trained:
            parameter.grad = None
        loss.backward()
        progress = ranks.average([parameter.grad for parameter in trained], clock.progress)
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        for optimiser, rate in zip(stage.optimisers, stage.rates, strict=True):
            optimiser.param_groups[0]["lr"] = rate * learning_rate_factor(progress, step)
            optimiser.step()
        update_average(list(average.values()), list(stage.parameters.values()), step)
        told.append({name: float(value.detach()) for name, value in named.items()})
        step += 1
        if ranks.first and step % 50 == 0:
            means = ", ".join(f"{name} {np.mean([each[name] for each in told[-50:]]):.4f}" for name in told[-1])
            logging.info("%s step %d: %s, %.0f s left", stage.name, step, means, budget - clock.spent)
        if ranks.first and step % SAVE_EVERY == 0:
            checkpoint.save(step, clock.spent)
            save_atomically(average | stage.beside, folder / f"{stage.name}.latest.pt")
    if ranks.first:
        save_atomically(average | stage.beside, folder / f"{stage.name}.pt")
    ranks.barrier()
