"""What the untrained model draws: the pictures that CoMat's discriminator is to tell the trained model's from."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import torch.distributed

from ..chance import generator_at
from ..files import load_checkpoint, save_checkpoint
from ..identity import weights_digest
from ..memory import memory_of_a_step
from ..network import UNET, Network
from .reading import Prompt
from .rollout import Guided, Prompts, ddpm_sigmas, rollout

FILE = "untrained.pt"
"""Beside the checkpoint."""


class Drawing(NamedTuple):
    """How latents are drawn: of a ``shape (C, h, w)``, in so many ``steps`` of DDPM with guidance of ``scale``, a
    ``batch`` at once, from a ``seed``."""

    shape: tuple[int, int, int]
    steps: int
    scale: float
    batch: int
    seed: int


def stacked(prompts: Sequence[Prompt], device: torch.device) -> Prompts:
    """Prompts as a network takes them."""
    vectors = [each.vector for each in prompts if each.vector is not None]
    context = torch.stack([each.context for each in prompts]).to(device)
    return Prompts(context, torch.stack(vectors).to(device) if vectors else None)


def latents_of_untrained(
    network: Network,
    prompts: Sequence[Prompt],
    empty: Prompt,
    count: int,
    drawing: Drawing,
    folder: Path,
    step: Callable[[int, int], None],
) -> torch.Tensor:
    """``(count, C, h, w)`` on the CPU: the first of the first prompt, the second of the second, and so on in turn.

    They are kept in a file of the folder on every way out, and only those drawn that it has not. Several processes
    draw their share each.

    Args:
        step: is given how many there are, and how many there are to be, before some are drawn.
    """
    path, identity = folder / FILE, _identity(network, prompts, drawing)
    state = load_checkpoint(path)
    latents = list(state["latents"]) if state is not None and state["identity"] == identity else []
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    rank, ranks = (torch.distributed.get_rank(), torch.distributed.get_world_size()) if distributed else (0, 1)
    kept = len(latents)
    try:
        while len(latents) < count:
            step(len(latents), count)
            start = len(latents) + rank * drawing.batch
            drawn = _drawn(network, prompts, empty, range(start, start + drawing.batch), drawing)
            latents += _of_all(drawn, ranks) if distributed else drawn
    finally:
        if rank == 0 and len(latents) > kept:
            save_checkpoint(path, {"identity": identity, "latents": torch.stack(latents)})
    return torch.stack(latents[:count])


def number_for(place: int, prompts: int, count: int, chance: torch.Generator) -> int:
    """The number of one of ``count`` latents: of the prompt at a place among so many, as published, or of any prompt if
    it has none."""
    own = range(place, count, prompts) or range(count)
    return own[int(torch.randint(len(own), (), generator=chance))]


def _drawn(
    network: Network, prompts: Sequence[Prompt], empty: Prompt, numbers: range, drawing: Drawing
) -> list[torch.Tensor]:
    chosen = [prompts[number % len(prompts)] for number in numbers]
    positive, negative = (stacked(each, network.device) for each in (chosen, [empty] * len(chosen)))
    sigmas = ddpm_sigmas(network.sampling, drawing.steps).clone()
    # The seed after the training's, so that these are not pictures that the training begins with.
    chance = generator_at(drawing.seed + 1, numbers.start)
    noise = torch.randn(len(chosen), *drawing.shape, generator=chance).to(network.device)
    memory = memory_of_a_step(network, drawing.shape, len(chosen), checkpointing=True)
    with network.ready(memory):
        guided = Guided(network, positive, negative, drawing.scale)
        return list(rollout(guided, network.denoised, sigmas, noise, chance).latent.float().cpu())


def _of_all(drawn: list[torch.Tensor], ranks: int) -> list[torch.Tensor]:
    """Those of all processes, in their order."""
    found: list[list[torch.Tensor]] = [[] for _ in range(ranks)]
    torch.distributed.all_gather_object(found, drawn)
    return [latent for each in found for latent in each]


def _identity(network: Network, prompts: Sequence[Prompt], drawing: Drawing) -> str:
    told = [each.text for each in prompts], tuple(drawing), weights_digest(network.patcher, UNET)
    return hashlib.sha256(repr(told).encode()).hexdigest()[:16]
