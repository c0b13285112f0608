"""Stage 1: the autoencoder, trained on crops around the things of rendered scenes and, at the end, on whole images."""

import logging
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from ..world.names import IMAGE_SIZE
from ..world.scenes import Scene, paint, palette_rgb, sample_scene
from .computing import Computing
from .networks import build_autoencoder
from .parallel import Ranks
from .progress import Checkpoint, Clock, learning_rate_factor, save_atomically

LEARNING_RATE = 1.5e-3
LATENT_NOISE = 0.1
CROPS = ((0.0, 32, 12), (0.35, 48, 8), (0.85, IMAGE_SIZE, 2))
"""(from this share of the time on, crop size in pixels, crops per step and process)."""

ANY_COLOUR_PROBABILITY = 0.15
TWO_TONE_PROBABILITY = 0.15
"""Fills beyond the palette, so that pictures which are not of the training world survive the autoencoder too."""


def crop_origin(rng: np.random.Generator, scene: Scene, size: int) -> tuple[float, float]:
    """Top left corner of a crop centred near the outline of one of the things, on whole pixels, inside the image."""
    if size >= IMAGE_SIZE:
        return 0.0, 0.0
    thing = scene.things[rng.integers(len(scene.things))]
    angle, reach = rng.uniform(0.0, 2.0 * np.pi), rng.uniform(0.0, 1.1) * thing.radius
    centre = np.array([thing.x + reach * np.cos(angle), thing.y + reach * np.sin(angle)])
    corner = np.clip(np.round(centre - size / 2.0), 0, IMAGE_SIZE - size)
    return float(corner[0]), float(corner[1])


def fill(rng: np.random.Generator, colour: str, size: int) -> np.ndarray:
    """Mostly the colour itself; sometimes any colour, or two colours side by side: RGB (3,) or (size, size, 3)."""

    def tone() -> np.ndarray:
        return rng.random(3, np.float32) if rng.random() < ANY_COLOUR_PROBABILITY else palette_rgb(colour)

    if rng.random() >= TWO_TONE_PROBABILITY:
        return tone()
    angle, offset = rng.uniform(0.0, 2.0 * np.pi), rng.uniform(-0.3, 0.3) * size
    axis = np.arange(size, dtype=np.float32) - size / 2.0
    side = (axis[None, :] * np.cos(angle) + axis[:, None] * np.sin(angle) > offset)[..., None]
    return np.where(side, tone(), rng.random(3, np.float32))


def sample_crops(rng: np.random.Generator, size: int, count: int) -> torch.Tensor:
    """Random crops of random scenes, (count, 3, size, size) in 0..1."""
    crops = np.empty((count, size, size, 3), np.float32)
    for crop in crops:
        scene = sample_scene(rng, favourite_probability=0.5)
        origin = crop_origin(rng, scene, size)
        crop[:] = scene.background
        for thing in scene.things:
            paint(crop, thing, fill(rng, thing.colour, size), origin)
    return torch.from_numpy(crops).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)


def reconstruction_loss(image: torch.Tensor, decoded: torch.Tensor, latent: torch.Tensor) -> torch.Tensor:
    """Absolute and squared error of the picture, and a pull of each latent channel to mean 0 and deviation 1."""
    difference = decoded - image
    deviation, mean = torch.std_mean(latent, dim=(0, 2, 3))
    spread = ((deviation - 1.0).square() + mean.square()).mean()
    return difference.abs().mean() + 2.0 * difference.square().mean() + 0.02 * spread


@torch.no_grad()
def unit_latents(autoencoder: torch.nn.Module, images: torch.Tensor) -> None:
    """Scale the encoder's last layer so that latents start with deviation 1."""
    autoencoder.taesd_encoder[-1].weight.div_(autoencoder.taesd_encoder(images).std())


def train(ranks: Ranks, computing: Computing, folder: Path, budget: float, seed: int = 1) -> None:
    """Train for `budget` seconds; the result is `vae.pt` in `folder`."""
    finished = folder / "vae.pt"
    if finished.exists():
        return
    torch.manual_seed(seed)
    autoencoder = build_autoencoder().to(computing.device, memory_format=torch.channels_last)
    unit_latents(autoencoder, *computing.put(sample_crops(np.random.default_rng((seed, ranks.rank)), 64, 16)))
    parameters = [parameter for parameter in autoencoder.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(parameters, LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.0)
    checkpoint = Checkpoint(folder / "vae.checkpoint.pt", model=autoencoder, optimiser=optimiser)
    step, spent = checkpoint.restore()
    rng = np.random.default_rng((seed, ranks.rank, step))
    ranks.broadcast(autoencoder)
    clock, progress, losses = Clock(budget, spent), spent / budget, []
    while progress < 1.0:
        size, count = next((size, count) for start, size, count in reversed(CROPS) if progress >= start)
        (images,) = computing.put(sample_crops(rng, size, count))
        with computing.autocast():
            latent = autoencoder.taesd_encoder(images)
            decoded = autoencoder.taesd_decoder(latent + LATENT_NOISE * torch.randn_like(latent))
        loss = reconstruction_loss(images, decoded.float(), latent.float())
        optimiser.zero_grad()
        loss.backward()
        progress = ranks.average([parameter.grad for parameter in parameters], clock.progress)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.param_groups[0]["lr"] = LEARNING_RATE * learning_rate_factor(progress, step, 50, 0.4)
        optimiser.step()
        losses.append(float(functional.mse_loss(decoded.detach().float(), images)))
        step += 1
        if ranks.first and step % 25 == 0:
            ratio = -10.0 * np.log10(np.mean(losses[-25:]))
            logging.info("vae step %d: %d px crops, %.1f dB, %.0f s left", step, size, ratio, budget - clock.spent)
        if ranks.first and step % 100 == 0:
            checkpoint.save(step, clock.spent)
    if ranks.first:
        save_atomically({key: value.contiguous() for key, value in autoencoder.state_dict().items()}, finished)
    ranks.barrier()
