"""Stage 4: the UNet, trained to predict the noise of latents given context rows of the text encoder.

The text encoder is frozen at first. Its rows then tell which words a caption has, but hardly which colour belongs to
which noun; so in the last part of the time it is trained along, at a lower rate. Networks of an earlier release
(`start.py`) go on at a lower rate, and its text encoder stays as it is.
"""

from pathlib import Path

import numpy as np
import torch

from ..world.names import FAVOURITE_COLOUR, FAVOURITE_MARK
from ..world.scenes import Thing
from .averaging import Stage, run, split_parameters
from .computing import Computing
from .conditioning import training_contexts
from .diffusion import alphas_cumulative, loss_weights, noised, predict_noise, spread_timesteps
from .muon import Muon
from .networks import build_unet
from .parallel import Ranks
from .progress import load
from .start import UNET_FILE as START
from .text import TextEncoder, load_vocabulary

LEARNING_RATE = 1.5e-3
BATCH = 32
"""Pictures per step, of all processes together."""

COUNT_SHARES = {1: 0.38, 2: 0.45, 3: 0.145, 4: 0.025}
"""How often scenes of so many things are drawn. With what is named but not drawn (`world/naming.py`) it decides how
much a prompt of two, three or four things leaves out."""

UNUSUAL_WEIGHT = 1.0
"""A scene is drawn this many times as often for each of its things that is not in its shape's favourite colour, among
the scenes of as many things."""

MARK_WEIGHTS = 1.5, 1.0
"""The same for each of its things with its shape's favourite mark, and with the other: so marks are correlated with
shapes as colours are, and are exchanged where a prompt asks for the other ones."""

TEXT_FROM = 0.57
"""Share of the time from which on the text encoder is trained too."""

TEXT_LEARNING_RATE = 4e-4

START_RATE = 0.6
"""The part of its rate at which the UNet of an earlier release goes on."""


def load_scenes(folder: Path) -> tuple[torch.Tensor, list[tuple[Thing, ...]]]:
    """All cached latents (N, 4, 16, 16) and the things of their scenes."""
    parts = [load(path) for path in sorted(folder.glob("latents.?.pt"))]
    scenes = [tuple(Thing(*values) for values in things) for part in parts for things in part["things"]]
    return torch.cat([part["latents"] for part in parts]), scenes


def scene_probabilities(scenes: list[tuple[Thing, ...]]) -> np.ndarray:
    """How often each scene is drawn, (N,), summing to 1."""
    unusual = [sum(FAVOURITE_COLOUR[thing.shape] != thing.colour for thing in things) for things in scenes]
    weights = UNUSUAL_WEIGHT ** np.array(unusual, np.float64)
    usual, other = MARK_WEIGHTS
    for index, things in enumerate(scenes):
        marks = [thing.mark == FAVOURITE_MARK[thing.shape] for thing in things if thing.mark]
        weights[index] *= usual ** sum(marks) * other ** (len(marks) - sum(marks))
    counts = np.array([len(things) for things in scenes])
    for count, share in COUNT_SHARES.items():
        weights[counts == count] *= share / max(weights[counts == count].sum(), 1.0)
    return weights / weights.sum()


def load_text_encoder(folder: Path) -> TextEncoder:
    """The text encoder of the stage before."""
    encoder = TextEncoder(load_vocabulary())
    encoder.load_state_dict(load(folder / "text.pt"))
    return encoder


def train(ranks: Ranks, computing: Computing, folder: Path, budget: float, seed: int = 4) -> None:
    """Train for `budget` seconds; the result, averaged weights of both networks, is `unet.pt` in `folder`."""
    if (folder / "unet.pt").exists():
        return
    torch.manual_seed(seed)
    latents, scenes = load_scenes(folder)
    probabilities = scene_probabilities(scenes)
    encoder, unet = load_text_encoder(folder).to(computing.device), build_unet()
    started = (folder / START).exists()
    if started:
        unet.load_state_dict(load(folder / START))
    unet.to(computing.device)
    text_from, rate = (np.inf, START_RATE * LEARNING_RATE) if started else (TEXT_FROM, LEARNING_RATE)
    matrices, others = split_parameters(unet)
    optimisers = (
        Muon(matrices, rate, computing.dtype),
        torch.optim.AdamW(others, rate, betas=(0.9, 0.99), weight_decay=0.0),
        torch.optim.AdamW(encoder.parameters(), TEXT_LEARNING_RATE, betas=(0.9, 0.99), weight_decay=0.0),
    )
    names = {f"unet.{name}": parameter for name, parameter in unet.named_parameters()}
    names |= {f"text.{name}": parameter for name, parameter in encoder.named_parameters()}
    alphas, batch = alphas_cumulative(), BATCH // ranks.count
    weights = loss_weights(alphas)

    def losses(rng: np.random.Generator, progress: float):
        encoder.requires_grad_(progress >= text_from)
        chosen = rng.choice(len(scenes), batch, p=probabilities)
        context = training_contexts(rng, encoder, [scenes[index] for index in chosen])
        timesteps = spread_timesteps(batch)
        noisy, noise, _ = noised(latents[torch.from_numpy(chosen)].float(), timesteps, alphas)
        noisy, noise, timesteps, weight = computing.put(noisy, noise, timesteps, weights[timesteps])
        with computing.autocast():
            error = predict_noise(unet, noisy, timesteps, context) - noise
        loss = (weight * error.square().mean((1, 2, 3))).mean()
        return loss, {"loss": loss}

    stage = Stage("unet", names, optimisers, (rate, rate, TEXT_LEARNING_RATE), {"unet": unet, "text": encoder})
    run(stage, losses, ranks, folder, budget, seed)
