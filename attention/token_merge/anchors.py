"""Anchor phrases: what the model makes of each entity's own clean phrase, on a latent of its own.

ToMe (Hu et al. 2024, arXiv 2411.07132), section 3.3, as in the published code. Its two slips are left out unless asked
for: there the guidance of the anchors has the wrong sign, and their latents are scaled down again in every step.
"""

from __future__ import annotations

import math
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from ..engine.calls import Negative
from ..engine.slopes import slopes

if typing.TYPE_CHECKING:
    from ..engine.gradient import ModelCall


class Anchors:
    """The latents of the anchors of one conditioning: ``(G, B, C, H, W)``, noisy latents like the sampler's."""

    def __init__(self, contexts: Sequence[torch.Tensor], x: torch.Tensor):
        self.contexts = contexts
        self.latents = x.expand(len(contexts), *x.shape).clone()

    def predict(self, call: ModelCall, negative: Negative | None, sigma_next: float | None, published: bool) -> Targets:
        """What is predicted for the anchor phrases at this noise level; then the latents go on to ``sigma_next`` with
        guidance, or stay where that is None."""
        count, batch = self.latents.shape[:2]
        x = self.latents.flatten(0, 1)
        call = call.without_pooled().of_latents([*range(batch)] * count).with_(x=x, control=None)
        contexts = [context for context in self.contexts for _ in range(batch)]
        guided = sigma_next is not None and negative is not None and (published or negative.scale != 1)
        with torch.no_grad():
            if guided:
                both = call.of_latents([*range(len(x))] * 2)
                targets, null = _denoised(both, [*contexts, *[negative.context] * len(x)]).chunk(2)
            else:
                targets = null = _denoised(call, contexts)
            if sigma_next is not None:
                scale = negative.scale if guided else 1.0
                moved = advanced(x, targets, null, float(call.sigma[0]), sigma_next, scale, published)
                self.latents = moved.unflatten(0, (count, batch))
        return Targets(call, targets, count)


def advanced(
    x: torch.Tensor,
    denoised: torch.Tensor,
    null: torch.Tensor,
    sigma: float,
    sigma_next: float,
    scale: float,
    published: bool,
) -> torch.Tensor:
    """One Euler step of the anchors' latents with guidance.

    The published code takes ``null + scale (null - anchor)`` as the noise, and divides the latents by sqrt(1 + sigma²)
    before they step.
    """
    noise, null_noise = (x - denoised) / sigma, (x - null) / sigma
    if published:
        guided = null_noise + scale * (null_noise - noise)
        return x / math.sqrt(1 + sigma**2) + (sigma_next - sigma) * guided
    return x + (sigma_next - sigma) * (null_noise + scale * (noise - null_noise))


@dataclass(frozen=True)
class Targets:
    """Predictions ``(G * B, C, H, W)`` for the anchor phrases, which composites are to reach by themselves."""

    call: ModelCall
    denoised: torch.Tensor
    count: int

    def improved(
        self, tokens: torch.Tensor, size: float, loss: Callable[..., torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """One step down the loss: the tokens ``(B, G, D)`` after it, and the losses ``(B, G)`` before it."""
        flat = tokens.transpose(0, 1).flatten(0, 1)
        found, moved = [], []
        for part in torch.arange(len(flat)).split(self.call.rows_at_once):
            leaf = flat[part].detach().requires_grad_()
            call = self.call.of_latents(part.tolist()).with_(context=leaf[:, None])
            losses = loss(call.denoised(), self.denoised[part], call.output_scale)
            # Of the sum over the picture, as the gradient of a mean vanishes in half precision.
            cells = call.x[0].numel()
            (gradient,) = slopes(losses.sum() * cells, (leaf,))
            found.append(losses.detach())
            moved.append((leaf - size / cells * gradient).detach())
        shape = (self.count, tokens.shape[0])
        return (
            torch.cat(moved).unflatten(0, shape).transpose(0, 1),
            torch.cat(found).unflatten(0, shape).transpose(0, 1),
        )


def _denoised(call: ModelCall, contexts: Sequence[torch.Tensor]) -> torch.Tensor:
    """What the model makes of the latents, row by row with these contexts ``(1, T, D)``."""
    length = math.lcm(*(context.shape[1] for context in contexts))
    rows = torch.cat([context.to(call.x).repeat(1, length // context.shape[1], 1) for context in contexts])
    parts = torch.arange(len(rows)).split(call.rows_at_once)
    return torch.cat([call.of_latents(part.tolist()).with_(context=rows[part]).denoised() for part in parts])
