"""Optimisation of composite tokens while sampling: ToMe (Hu et al. 2024, arXiv 2411.07132), section 3.3.

Own choices: every latent of a batch has its own tokens; a step that a sampler evaluates several times is optimised
once, and its latent shift is used in each of its evaluations.
"""

from __future__ import annotations

import typing
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from ...parsing.binding import Binding
from ..engine.calls import Call, Layer
from ..engine.roles import check_rows, word_rows
from ..engine.rows import Chunk
from ..engine.run import Participant, Run
from .anchors import Anchors
from .binding_losses import binding_loss
from .composite import Composite, index_of, put, taken
from .loss_history import Entry, LossHistory, TokenLosses
from .refinement import Refinement, Sizes, entropy_layers

if typing.TYPE_CHECKING:
    from ..engine.gradient import ModelCall

NAME = "Token Optimization"


@dataclass(frozen=True)
class Plan:
    """How much is optimised.

    In the first ``token_steps`` steps of a run the composite tokens get ``token_iterations`` updates of size
    ``token_step_size`` by the semantic binding loss; in the first ``entropy_steps`` up to ``entropy_iterations`` by the
    entropy loss, of size ``row_step_size`` for rows and ``latent_step_size`` for the network's input, both falling to 0
    over the run. ``thresholds`` end the entropy iterations: one for each step, the last for all that follow, in the
    published code's numbers for two entities.
    """

    token_steps: int
    token_iterations: int
    token_step_size: float
    entropy_steps: int
    entropy_iterations: int
    row_step_size: float
    latent_step_size: float
    thresholds: tuple[float, ...]


@dataclass(frozen=True)
class OptimizationSettings:
    """``anchors`` are the encoded anchor phrases ``(1, T, D)`` of the composites. ``published`` takes over what the
    published code does otherwise than the paper. ``report`` gets a line of progress, ``losses`` the losses of every
    finished run."""

    binding: Binding
    composites: tuple[Composite, ...]
    anchors: tuple[torch.Tensor, ...] = field(compare=False)
    plan: Plan
    pose: bool
    published: bool
    report: Callable[[str], None]
    losses: TokenLosses

    name = NAME
    differentiates = True

    def check(self, layers: tuple[Layer, ...]) -> None:
        """Raise ValueError if the pose loss is asked for with another number of entities than two."""
        if self.pose and len(self.composites) != 2:
            names = ", ".join(composite.entity.name for composite in self.composites) or "none"
            raise ValueError(
                "The pose loss puts two entities beside each other, and needs exactly two with attributes or "
                f"sub-objects. There are {len(self.composites)}: {names}. Switch pose_loss off."
            )

    def begin(self, run: Run) -> Participant:
        run.require(self.binding, NAME, with_gradients=True)
        mine = [each.binding.key for each in run.techniques if isinstance(each, type(self))]
        if mine.count(self.binding.key) > 1:
            raise ValueError(f"There are several {NAME} nodes for the same BINDING. Use one, with more iterations.")
        replaced = run.replaced.get(self.binding.key, frozenset()) & {each.entity.name for each in self.composites}
        if replaced and self.plan.token_steps:
            raise ValueError(
                f"{NAME} would undo what Token Arithmetic has done to {', '.join(sorted(replaced))}: its semantic "
                "binding loss pulls a token to the entity's own phrase. Set token_steps to 0, or take one of the two "
                "nodes away."
            )
        idle = not self.composites or self.plan.token_steps == self.plan.entropy_steps == 0
        return WithHistory(self, run) if idle else Optimization(self, run)


class WithHistory(Participant):
    """Keeps the losses of a run; there are none where nothing is optimised."""

    def __init__(self, settings: OptimizationSettings, run: Run):
        self.settings = settings
        self.run = run
        self.entries: list[Entry] = []

    def finish(self, latent: torch.Tensor) -> None:
        names = tuple(composite.entity.name for composite in self.settings.composites)
        text = self.settings.binding.text
        history = LossHistory(text, names, self.run.steps, self.run.sigmas, tuple(self.entries))
        self.settings.losses.add(latent, history)


@dataclass
class State:
    """What one conditioning of a run has come to: its rows as they were found, and as optimised, both ``(B, T, D)``;
    the anchors' latents; the last step optimised; and the shift of the network's input in each step that has one.

    Some samplers look ahead (heunpp2, by two steps) and come back to a step that has been optimised before.
    """

    found: torch.Tensor
    rows: torch.Tensor
    anchors: Anchors
    step: int = -1
    shifts: dict[int, torch.Tensor] = field(default_factory=dict)


class Optimization(WithHistory):
    """Optimises the composite tokens in one run."""

    edits_last = True
    needs_places = True

    def __init__(self, settings: OptimizationSettings, run: Run):
        super().__init__(settings, run)
        self.plan = settings.plan
        self.gradient_rows = len(settings.composites) * run.batch
        self.refinement = Refinement(
            layers=entropy_layers(run.layers, run.height, run.width),
            words=word_rows(settings.binding),
            composites=settings.composites,
            pose=settings.pose,
            published=settings.published,
        )
        self.states: dict[Any, State] = {}

    def guides(self, key: str, step: int) -> bool:
        return key == self.settings.binding.key and step < max(self.plan.token_steps, self.plan.entropy_steps)

    def edit_context(self, call: Call, chunk: Chunk, rows: torch.Tensor) -> torch.Tensor:
        """Optimised rows; numbers that another technique has changed since start anew."""
        state = self.states.get(chunk.uuid)
        if state is None:
            return rows
        return torch.where(rows == state.found.to(rows.device), state.rows.to(rows), rows)

    def shift_input(self, uuid: Any, step: int) -> torch.Tensor | None:
        state = self.states.get(uuid)
        return None if state is None else state.shifts.get(step)

    def guide(self, call: ModelCall, chunk: Chunk, found: torch.Tensor) -> None:
        """Optimise for one conditioning, once in a step.

        Args:
            found: its rows ``(B, T, D)`` before optimisation; ``call.context`` has them as they are now.
        """
        step = call.call.step
        check_rows(self.settings.binding, chunk.cond.length)
        state = self.states.get(chunk.uuid)
        if state is None:
            state = State(found, call.context, Anchors(self.settings.anchors, call.x))
            self.states[chunk.uuid] = state
        if step <= state.step:
            return
        state.found, state.rows, state.step = found, call.context, step
        if step < self.plan.token_steps:
            self._bind(call, state)
        if step < self.plan.entropy_steps:
            self._refine(call, state)

    def _bind(self, call: ModelCall, state: State) -> None:
        """Semantic binding loss: each composite alone is to predict what its anchor phrase predicts."""
        step, settings = call.call.step, self.settings
        index = index_of(settings.composites, state.rows.shape[-1]).to(state.rows.device)
        tokens = taken(state.rows, index)
        last = step == min(self.plan.token_steps, self.run.steps) - 1
        sigma_next = None if last else self.run.sigmas[step + 1]
        targets = state.anchors.predict(call, self.run.negative, sigma_next, settings.published)
        for iteration in range(self.plan.token_iterations):
            tokens, losses = targets.improved(tokens, self.plan.token_step_size, binding_loss)
            self._note("binding", step, iteration, losses)
        state.rows = put(state.rows, index, tokens)

    def _refine(self, call: ModelCall, state: State) -> None:
        """Entropy loss: moves rows and the network's input until the map of each composite is compact."""
        step, plan = call.call.step, self.plan
        threshold = plan.thresholds[min(step, len(plan.thresholds) - 1)]
        sizes = Sizes(plan.entropy_iterations, plan.row_step_size, plan.latent_step_size, threshold)
        state.rows, x = self.refinement.refined(
            call.with_(context=state.rows),
            sizes.at(step, self.run.steps),
            lambda loss, iteration, values: self._note(loss, step, iteration, values),
        )
        state.shifts[step] = (x - call.x) * call.input_scale

    def _note(self, loss: str, step: int, iteration: int, values: torch.Tensor) -> None:
        found = values.detach().float().cpu()
        self.entries.append(Entry(loss, step, iteration, tuple(map(tuple, found.tolist()))))
        names = [composite.entity.name for composite in self.settings.composites]
        means = found.mean(0).tolist()
        each = ", ".join(f"{name} {value:.4g}" for name, value in zip(names, means, strict=False))
        told = f"pose {means[0]:.4g}" if loss == "pose" else f"{loss} loss: {each}"
        self.settings.report(f"step {step + 1} of {self.run.steps}, iteration {iteration + 1}, {told}")
