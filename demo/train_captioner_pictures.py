"""Stage 1 of the captioner: scenes that went through the demo model's autoencoder, as what it is to judge will have."""

import logging
import time
from dataclasses import astuple
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

from .captioner_network import PICTURE_SIZE
from .captioner_world import pictured, sample_any_scene
from .computing import Computing
from .export import checkpoint_parts
from .networks import build_autoencoder
from .parallel import Ranks
from .progress import save_atomically

MODEL = Path(__file__).with_name("model.safetensors")
SCENES = 1600
CHUNK = 16
LATENT_NOISE = 0.3
"""The largest deviation of what is added to latents; the UNet's are not quite those of the encoder."""


def load_autoencoder(computing: Computing) -> nn.Module:
    """The shipped demo model's."""
    autoencoder = build_autoencoder()
    autoencoder.load_state_dict(checkpoint_parts(load_file(MODEL))[0])
    return autoencoder.to(computing.device, memory_format=torch.channels_last).requires_grad_(False)


@torch.no_grad()
def through_autoencoder(
    autoencoder: nn.Module, computing: Computing, pictures: torch.Tensor, noise: torch.Tensor
) -> torch.Tensor:
    """Pictures ``(B, 3, 128, 128)`` encoded and decoded; ``noise (B, 4, 16, 16)`` is added to their latents."""
    with computing.autocast():
        latents = autoencoder.taesd_encoder(*computing.put(pictures.to(memory_format=torch.channels_last)))
        decoded = autoencoder.taesd_decoder(latents + noise.to(latents))
    return decoded.float().clamp(0.0, 1.0).contiguous().cpu()


def resized(pictures: torch.Tensor) -> torch.Tensor:
    """Pictures in the captioner's size, ``(B, 3, S, S)``."""
    size = (PICTURE_SIZE, PICTURE_SIZE)
    return nn.functional.interpolate(pictures, size=size, mode="bicubic", antialias=True).clamp(0.0, 1.0)


def train(ranks: Ranks, computing: Computing, folder: Path, budget: float, seed: int = 31) -> None:
    """Make this rank's share of the pictures, in `pictures.RANK.pt`; takes as long as it takes, whatever the budget."""
    finished = folder / f"pictures.{ranks.rank}.pt"
    if finished.exists():
        return
    rng = np.random.default_rng((seed, ranks.rank))
    autoencoder = load_autoencoder(computing)
    scenes, pictures, start, total = [], [], time.monotonic(), SCENES // ranks.count
    while len(scenes) < total:
        chunk = [sample_any_scene(rng) for _ in range(min(CHUNK, total - len(scenes)))]
        deviation = rng.uniform(0.0, LATENT_NOISE, (len(chunk), 1, 1, 1))
        noise = torch.from_numpy(deviation * rng.standard_normal((len(chunk), 4, 16, 16)))
        decoded = through_autoencoder(autoencoder, computing, pictured(chunk), noise)
        pictures.append((resized(decoded) * 255.0).round().to(torch.uint8))
        scenes += chunk
        if ranks.first and len(scenes) % 200 == 0:
            left = (time.monotonic() - start) * (total / len(scenes) - 1.0)
            logging.info("pictures: %d of %d, %.0f s left", len(scenes) * ranks.count, SCENES, left)
    things = [[astuple(thing) for thing in scene.things] for scene in scenes]
    save_atomically({"pictures": torch.cat(pictures), "things": things}, finished)
