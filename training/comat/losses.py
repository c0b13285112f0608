"""CoMat's losses (Jiang et al. 2024, arXiv 2404.03653), as pure functions of its published code.

Concept matching says how badly a captioner is able to tell the prompt from the picture, fidelity how a discriminator
takes it for one of the trained model's, and attribute concentration, which are TokenCompose's token and pixel losses,
how much attention to a noun and its attributes lies beside the noun.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from ..grounding import Grounding, Nouns, losses_of
from ..network import Seen

SMOOTHING = 0.1
"""Of the labels: what BLIP of the published run's transformers had in its code; later ones have none."""
CROP = 224
"""A side of this many pixels gives a pixel for the random crop."""


@dataclass(frozen=True)
class Weights:
    """What each loss counts; 0 leaves one out. Published for SD1.5; for SDXL ``fidelity`` is 0.5."""

    concept: float = 1.0
    fidelity: float = 1.0
    token: float = 1e-3
    pixel: float = 5e-5


def negative_log_likelihood(
    logits: torch.Tensor, tokens: torch.Tensor, scored: torch.Tensor, smoothing: float
) -> torch.Tensor:
    """``(B,)``: the mean over a text's scored tokens of its cross-entropy with smoothed labels.

    The paper adds up over the tokens, its code takes the mean, which this follows; but of each text by itself, where
    the code has one mean over those of the whole batch, so that long prompts count more.

    Args:
        logits: ``(B, T, V)``, of the token that comes next.
        tokens: ``(B, T)``, the text.
        scored: ``(B, T)``, True for the tokens that count; the first of a text is never foretold and does not.
        smoothing: the part of each label that is spread over the whole vocabulary.
    """
    foretold = logits[:, :-1].log_softmax(-1)
    of_label = foretold.gather(-1, tokens[:, 1:, None]).squeeze(-1)
    losses = -(1 - smoothing) * of_label - smoothing * foretold.mean(-1)
    counted = scored[:, 1:].to(losses)
    return (losses * counted).sum(-1) / counted.sum(-1)


def randomly_cropped(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Pictures ``(B, H, W, C)`` without some lines and columns at their edges: one in ``CROP``, from a place drawn by
    chance, so that the captioner's grid is not always at the same place. 512 pixels become 510."""
    sizes = images.shape[1:3]
    less = [size // CROP for size in sizes]
    top, left = (int(torch.randint(each + 1, (), generator=generator)) for each in less)
    return images[:, top : top + sizes[0] - less[0], left : left + sizes[1] - less[1]]


def generator_loss(logits: torch.Tensor) -> torch.Tensor:
    """``()``: how little a discriminator takes latents for the untrained model's, from its logits ``(B, h, w)``."""
    return F.softplus(-logits).mean()


def discriminator_loss(drawn: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """``()``: how badly a discriminator tells apart what the trained model drew and what the untrained one did, from
    its logits ``(B, h, w)`` of as many of both."""
    return (F.softplus(drawn).mean() + F.softplus(-real).mean()) / 2


def attribute_losses(captured: Collection[Sequence[Seen]], nouns: Sequence[Nouns]) -> Grounding:
    """Token and pixel losses ``(B,)`` of what each captured step of a rollout has shown, summed over the steps, and the
    mean share of attention within the masks.

    The paper's token loss is neither squared nor a mean over heads and tokens; its code, which this follows, takes
    TokenCompose's. So a noun with an empty mask has a constant token loss, and is held back by its pixel loss alone.
    """
    token, pixel, share = (
        torch.stack(each) for each in zip(*(losses_of(seen, nouns) for seen in captured), strict=True)
    )
    return Grounding(token.sum(0), pixel.sum(0), share.mean(0))


def total(
    weights: Weights,
    concept: torch.Tensor | None = None,
    fidelity: torch.Tensor | None = None,
    token: torch.Tensor | None = None,
    pixel: torch.Tensor | None = None,
) -> torch.Tensor:
    """``()``: the weighted sum of the losses that there are.

    Raises:
        ValueError: there is none.
    """
    parts = {"concept": concept, "fidelity": fidelity, "token": token, "pixel": pixel}
    weighted = [getattr(weights, name) * loss for name, loss in parts.items() if loss is not None]
    if not weighted:
        raise ValueError("All parts of CoMat are off, so there is nothing to train by. Switch one on.")
    return torch.stack(weighted).sum()
