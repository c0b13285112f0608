"""Sampling with gradients at some of its steps: what CoMat (Jiang et al. 2024, arXiv 2404.03653) trains through.

Ancestral sampling of DDPM (Ho et al. 2020, arXiv 2006.11239, equations 6 and 7) in the terms of ComfyUI, where a noisy
latent is ``latent + sigma * noise``. A few steps, evenly spread from a start drawn by chance, keep the graph of their
network call; between and behind them the graph goes on through the sampler's own arithmetic alone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import torch

from ...attention.engine.calls import Layer
from ..lora import Adapters
from ..network import Network, Watch

FIRST_TIMESTEP = 1
"""Of the last step. Stable Diffusion's samplers count it from here in training's thousand (``steps_offset``)."""


def steps_with_gradient(count: int, gradient_steps: int, generator: torch.Generator) -> list[int]:
    """``gradient_steps`` of the steps 0 .. ``count - 1``, ``count // gradient_steps`` apart, all starts equally likely.

    The published code takes one more where ``count`` is no multiple and the start is early.

    Raises:
        ValueError: there are not so many steps.
    """
    if not 1 <= gradient_steps <= count:
        raise ValueError(
            f"{gradient_steps} of {count} steps cannot have gradients. Set gradient steps to 1 to {count}, or take "
            "more steps."
        )
    interval = count // gradient_steps
    starts = count - interval * (gradient_steps - 1)
    start = int(torch.randint(starts, (), generator=generator))
    return [start + interval * number for number in range(gradient_steps)]


def steps_captured(with_gradient: Collection[int], draws: int, generator: torch.Generator) -> list[int]:
    """The steps whose attention is looked at: ``draws`` of those with gradients, drawn with replacement as in the
    published code, so that they may be fewer."""
    steps = sorted(with_gradient)
    drawn = torch.randint(len(steps), (draws,), generator=generator)
    return sorted({steps[place] for place in drawn.tolist()})


def ddpm_sigmas(sampling: Any, count: int) -> torch.Tensor:
    """Noise levels ``(count + 1,)`` of ``count`` evenly spaced timesteps, from high to low, and 0.

    Args:
        sampling: ComfyUI's ``model_sampling``.

    Raises:
        ValueError: the model was trained with fewer timesteps.
    """
    timesteps = len(sampling.sigmas)
    if not 1 <= count <= timesteps:
        raise ValueError(f"A picture cannot be drawn in {count} steps. Take 1 to {timesteps}.")
    spaced = torch.arange(count - 1, -1, -1) * (timesteps // count) + FIRST_TIMESTEP
    sigmas = sampling.sigma(spaced.to(sampling.sigmas.device))
    return torch.cat([sigmas, sigmas.new_zeros(1)])


def ancestral_step(
    noisy: torch.Tensor, clean: torch.Tensor, sigma: torch.Tensor, following: torch.Tensor, noise: torch.Tensor
) -> torch.Tensor:
    """The latent of the ``following`` noise level, drawn from what DDPM says of it, given the noisy latent of level
    ``sigma`` and the ``clean`` one that the network sees in it."""
    kept = (following / sigma) ** 2
    return clean + kept * (noisy - clean) + following * (1 - kept).sqrt() * noise


class Rolled(NamedTuple):
    """The latent of the picture ``(B, C, h, w)``, and what each captured step has shown."""

    latent: torch.Tensor
    captured: dict[int, Any]


Predict = Callable[[torch.Tensor, torch.Tensor, bool], tuple[torch.Tensor, Any]]
"""From a noisy latent ``(B, C, h, w)`` and noise levels ``(B,)`` the network's output; and, if the last argument is
true, what is captured of the step."""
Denoised = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""The clean latent, from a noisy one, noise levels, and the network's output."""


def rollout(
    predict: Predict,
    denoised: Denoised,
    sigmas: torch.Tensor,
    noise: torch.Tensor,
    generator: torch.Generator,
    with_gradient: Collection[int] = (),
    captured: Collection[int] = (),
    detached: bool = False,
) -> Rolled:
    """Draw a latent from ``noise (B, C, h, w)``, standard normal, at the noise levels ``sigmas (steps + 1,)``.

    Args:
        with_gradient: the steps whose network call is differentiated; without any there is no graph at all.
        captured: those of them that ``predict`` is to capture.
        detached: cut the graph before the network's input, so that gradients reach each call through the sampler's
            arithmetic alone. The published code does so for SDXL and not for SD1.5; it needs less memory.

    Raises:
        ValueError: a captured step has no gradient.
    """
    others = sorted(set(captured) - set(with_gradient))
    if others:
        raise ValueError(f"Steps {others} are to be captured and have no gradient; those that do: {with_gradient}.")
    sigmas = sigmas.to(noise)
    first = min(with_gradient, default=len(sigmas))
    x = noise * (1 + sigmas[0] ** 2).sqrt()
    seen = {}
    for step, (sigma, following) in enumerate(pairwise(sigmas)):
        levels = sigma.expand(len(x))
        with torch.set_grad_enabled(step in with_gradient):
            output, found = predict(x.detach() if detached else x, levels, step in captured)
        if step in captured:
            seen[step] = found
        with torch.set_grad_enabled(step >= first):
            clean = denoised(x, levels, output)
            fresh = torch.randn(x.shape, generator=generator, device=generator.device).to(x)
            x = ancestral_step(x, clean, sigma, following, fresh)
    return Rolled(x, seen)


class Prompts(NamedTuple):
    """Encoded prompts: ``context (B, T, D)``, and ``vector (B, Y)`` of models that have one (SDXL)."""

    context: torch.Tensor
    vector: torch.Tensor | None = None


@dataclass(frozen=True)
class Guided:
    """The network's output with classifier-free guidance, as ``rollout`` wants it; it captures the attention that
    ``layers`` give to the context's ``rows (B, K)`` in the pass of the positive prompts."""

    network: Network
    positive: Prompts
    negative: Prompts
    scale: float
    adapters: Adapters | None = None
    layers: frozenset[Layer] = frozenset()
    rows: torch.Tensor | None = None

    def __call__(self, noisy: torch.Tensor, sigma: torch.Tensor, capture: bool) -> tuple[torch.Tensor, Any]:
        watch = Watch(self.layers, self.rows) if capture else None
        if watch is None and self.positive.context.shape == self.negative.context.shape:
            prompts = Prompts(
                *(
                    None if own is None else torch.cat([own, other])
                    for own, other in zip(self.positive, self.negative, strict=True)
                )
            )
            positive, negative = self._pass(noisy.repeat(2, 1, 1, 1), sigma.repeat(2), prompts).chunk(2)
        else:
            positive = self._pass(noisy, sigma, self.positive, watch)
            negative = self._pass(noisy, sigma, self.negative)
        return negative + self.scale * (positive - negative), watch and tuple(watch.seen)

    def _pass(self, noisy: torch.Tensor, sigma: torch.Tensor, prompts: Prompts, watch: Watch | None = None):
        return self.network.predict(noisy, sigma, *prompts, self.adapters, watch)
