"""Guidance by losses on attention maps: the sampler's own latent is moved down their gradient before it is denoised.

All guidance nodes of a binding take part in one backward pass: each latent of a batch goes down the sum of the losses
that are still above their targets. The forward pass has only the rows of the bound conditioning, and ends with the last
layer that is looked at.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ...parsing.binding import Binding
from ..engine.calls import Layer
from ..engine.roles import check_rows
from ..engine.rows import Chunk
from ..engine.run import Participant, Run
from ..engine.slopes import slopes
from .objective import Attended, Losses, Method, Objective, Update

if typing.TYPE_CHECKING:
    from ..engine.gradient import ModelCall

NAME = "Attention Guidance"


@dataclass(frozen=True)
class GuidanceSettings:
    """``report`` gets a line of progress for every update."""

    binding: Binding
    method: Method
    report: Callable[[str], None]

    name = NAME
    differentiates = True

    def check(self, layers: tuple[Layer, ...]) -> None:
        """Raise ValueError if the method has nothing to act on."""
        self.method.check(self.binding, layers)

    def begin(self, run: Run) -> Participant:
        run.require(self.binding, NAME, with_gradients=True)
        together = [each for each in run.techniques if isinstance(each, type(self)) and each.key == self.key]
        return Guidance(together, run) if together[0] is self else Participant()

    @property
    def key(self) -> str:
        return self.binding.key


class Due(typing.NamedTuple):
    """An objective's update in the step in progress, and which latents ``(B,)`` are still to go on."""

    objective: Objective
    update: Update
    going: torch.Tensor


class Guidance(Participant):
    """Moves the latents of one run."""

    moves_latent = True
    needs_places = True

    def __init__(self, settings: Sequence[GuidanceSettings], run: Run):
        self.binding, self.report, self.run = settings[0].binding, settings[0].report, run
        self.gradient_rows = run.batch
        self.objectives = [each.method.objective(each.binding, run) for each in settings]
        self.done: set[int] = set()
        self.moves: dict[Any, torch.Tensor] = {}

    def guides(self, key: str, step: int) -> bool:
        mine = key == self.binding.key and step not in self.done and not self.run.held.looking_ahead
        return mine and any(objective.update(step) for objective in self.objectives)

    def move_latent(self, uuid: Any, step: int) -> torch.Tensor | None:
        shift = self.moves.pop(uuid, None)
        if shift is not None:
            self.done.add(step)
        return shift

    def guide(self, call: ModelCall, chunk: Chunk, found: torch.Tensor) -> None:
        check_rows(self.binding, chunk.cond.length)
        step, x = call.call.step, call.x
        all_of_them = torch.ones(len(x), dtype=torch.bool, device=x.device)
        updates = [(objective, objective.update(step)) for objective in self.objectives]
        due = [Due(objective, update, all_of_them) for objective, update in updates if update is not None]
        iteration = 0
        while due:
            now = call.with_(x=x)
            parts = torch.arange(len(x), device=x.device).split(call.rows_at_once)
            slopes = [slope(now.of_latents(part.tolist()), due, part) for part in parts]
            x = x - torch.cat([gradient for gradient, _, _ in slopes])
            self._tell(step, iteration, due, [losses for _, losses, _ in slopes])
            iteration += 1
            going = [torch.cat(each) for each in zip(*(going for _, _, going in slopes), strict=True)]
            due = [
                each._replace(going=now_going)
                for each, now_going in zip(due, going, strict=True)
                if iteration < each.update.most and now_going.any()
            ]
        self.moves[chunk.uuid] = x - call.x

    def _tell(self, step: int, iteration: int, due: Sequence[Due], losses: Sequence[Sequence[Losses]]) -> None:
        told = []
        for place, each in enumerate(due):
            values = torch.cat([of_part[place].each for of_part in losses]).float().mean(0).tolist()
            told.append(f"{each.objective.name} {', '.join(f'{value:.3g}' for value in values)}")
        self.report(f"step {step + 1} of {self.run.steps}, update {iteration + 1}: {'; '.join(told)}")


def slope(
    call: ModelCall, due: Sequence[Due], part: torch.Tensor
) -> tuple[torch.Tensor, list[Losses], list[torch.Tensor]]:
    """The step ``(B, C, H, W)`` down all losses at the call's latents, the losses, and who is still above its target.

    Args:
        part: which of all latents these are.

    Raises:
        ValueError: a gradient is no number.
    """
    leaf = call.x.detach().requires_grad_()
    layers = frozenset().union(*(each.objective.layers for each in due))
    rows = torch.eye(call.context.shape[1], device=leaf.device)
    seen = call.with_(x=leaf).attention(layers, rows, per_head=True)
    attended = Attended(
        maps={each.layer: each.probabilities for each in seen},
        grids={each.layer: each.grid for each in seen},
        area=call.call.chunks[0].cond.area,
        latents=part.tolist(),
    )
    sizes = [each.update.size * each.objective.scale(call.sigma) for each in due]
    # Relative to the longest of them, so that half precision has room for the gradient.
    longest = torch.stack(sizes).amax(0).clamp(min=torch.finfo(leaf.dtype).tiny)
    found, above, total = [], [], leaf.new_zeros(())
    for each, size in zip(due, sizes, strict=True):
        losses = each.objective.losses(attended)
        going = each.going[part] & (losses.total > each.update.target)
        pushed = each.going[part] if each.update.settling else going
        total = total + (losses.total * pushed * size / longest).sum()
        found.append(Losses(losses.each.detach(), losses.total.detach()))
        above.append(going)
    (gradient,) = slopes(total, (leaf,))
    if not gradient.isfinite().all():
        raise ValueError(
            f"The gradient of {', '.join(each.objective.name for each in due)} is no number, which half precision can "
            "bring about. Start ComfyUI with --bf16-unet or --fp32-unet, or use a smaller step size."
        )
    return gradient * longest[:, None, None, None], found, above
