"""Stage 4: the UNet, trained to predict the noise of latents given context rows of the text encoder.

The text encoder is frozen at first. Its rows then tell which words a caption has, but hardly which colour belongs to
which noun; so in the last part of the time it is trained along, at a lower rate.
"""

import logging
from pathlib import Path

import numpy as np
import torch

from .architecture import FAVOURITE_COLOUR
from .computing import Computing
from .conditioning import training_contexts
from .diffusion import alphas_cumulative, loss_weights, predict_noise, spread_timesteps
from .muon import Muon
from .networks import build_unet
from .parallel import Ranks
from .progress import Checkpoint, Clock, learning_rate_factor, load, save_atomically
from .text import TextEncoder, load_vocabulary
from .world import Thing

LEARNING_RATE = 1.5e-3
BATCH = 16
"""Pictures per step and process."""

UNUSUAL_WEIGHT = 4.0
"""A scene is drawn this many times as often for each of its things that is not in its shape's favourite colour."""

TEXT_FROM = 0.57
"""Share of the time from which on the text encoder is trained too."""

TEXT_LEARNING_RATE = 4e-4
AVERAGE_DECAY = 0.999
SAVE_EVERY = 100


def load_scenes(folder: Path) -> tuple[torch.Tensor, list[tuple[Thing, ...]]]:
    """All cached latents (N, 4, 16, 16) and the things of their scenes."""
    parts = [load(path) for path in sorted(folder.glob("latents.?.pt"))]
    scenes = [tuple(Thing(*values) for values in things) for part in parts for things in part["things"]]
    return torch.cat([part["latents"] for part in parts]), scenes


def scene_probabilities(scenes: list[tuple[Thing, ...]]) -> np.ndarray:
    """How often each scene is drawn, (N,), summing to 1."""
    unusual = [sum(FAVOURITE_COLOUR[thing.shape] != thing.colour for thing in things) for things in scenes]
    weights = UNUSUAL_WEIGHT ** np.array(unusual, np.float64)
    return weights / weights.sum()


def load_text_encoder(folder: Path) -> TextEncoder:
    """The text encoder of the stage before."""
    encoder = TextEncoder(load_vocabulary())
    encoder.load_state_dict(load(folder / "text.pt"))
    return encoder


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


def train(ranks: Ranks, computing: Computing, folder: Path, budget: float, seed: int = 4) -> None:
    """Train for `budget` seconds; the result, averaged weights of both networks, is `unet.pt` in `folder`."""
    finished = folder / "unet.pt"
    if finished.exists():
        return
    torch.manual_seed(seed)
    latents, scenes = load_scenes(folder)
    probabilities = scene_probabilities(scenes)
    encoder, unet = load_text_encoder(folder).to(computing.device), build_unet().to(computing.device)
    matrices, others = split_parameters(unet)
    optimisers = (
        Muon(matrices, LEARNING_RATE, computing.dtype),
        torch.optim.AdamW(others, LEARNING_RATE, betas=(0.9, 0.99), weight_decay=0.0),
        torch.optim.AdamW(encoder.parameters(), TEXT_LEARNING_RATE, betas=(0.9, 0.99), weight_decay=0.0),
    )
    names = {f"unet.{name}": parameter for name, parameter in unet.named_parameters()}
    names |= {f"text.{name}": parameter for name, parameter in encoder.named_parameters()}
    average = {name: parameter.detach().clone() for name, parameter in names.items()}
    parts = {"unet": unet, "text": encoder, "average": average, "optimisers": optimisers}
    checkpoint = Checkpoint(folder / "unet.checkpoint.pt", **parts)
    step, spent = checkpoint.restore()
    rng = np.random.default_rng((seed, ranks.rank, step))
    torch.manual_seed(seed + 1000 * step + ranks.rank)
    alphas = alphas_cumulative()
    weights = loss_weights(alphas)
    rates = (LEARNING_RATE, LEARNING_RATE, TEXT_LEARNING_RATE)
    clock, progress, losses = Clock(budget, spent), spent / budget, []
    while progress < 1.0:
        encoder.requires_grad_(progress >= TEXT_FROM)
        trained = [parameter for parameter in names.values() if parameter.requires_grad]
        chosen = rng.choice(len(scenes), BATCH, p=probabilities)
        context = training_contexts(rng, encoder, [scenes[index] for index in chosen])
        clean = latents[torch.from_numpy(chosen)].float()
        timesteps = spread_timesteps(BATCH)
        noise = torch.randn_like(clean)
        signal = alphas[timesteps].view(-1, 1, 1, 1)
        noisy = signal.sqrt() * clean + (1.0 - signal).sqrt() * noise
        noisy, noise, timesteps, weight = computing.put(noisy, noise, timesteps, weights[timesteps])
        with computing.autocast():
            error = predict_noise(unet, noisy, timesteps, context) - noise
        loss = (weight * error.square().mean((1, 2, 3))).mean()
        for parameter in trained:
            parameter.grad = None
        loss.backward()
        progress = ranks.average([parameter.grad for parameter in trained], clock.progress)
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        for optimiser, rate in zip(optimisers, rates, strict=True):
            optimiser.param_groups[0]["lr"] = rate * learning_rate_factor(progress, step)
            optimiser.step()
        update_average(list(average.values()), list(names.values()), step)
        losses.append(float(loss.detach()))
        step += 1
        if ranks.first and step % 50 == 0:
            logging.info("unet step %d: loss %.4f, %.0f s left", step, np.mean(losses[-50:]), budget - clock.spent)
        if ranks.first and step % SAVE_EVERY == 0:
            checkpoint.save(step, clock.spent)
            save_atomically(average, folder / "unet.latest.pt")
    if ranks.first:
        save_atomically(average, finished)
    ranks.barrier()
