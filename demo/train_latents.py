"""Stage 2: scenes of the training distribution, encoded once, so that the UNet trains on latents alone."""

import logging
import time
from dataclasses import astuple, replace
from pathlib import Path

import numpy as np
import torch

from ..world.names import FAVOURITE_COLOUR
from ..world.scenes import Scene, render, sample_scene
from .computing import Computing
from .networks import build_autoencoder
from .parallel import Ranks
from .progress import load, save_atomically

SCENES = 14000
EXCHANGED_SCENES = 500
"""Further scenes, of two things in each other's favourite colour: by chance there would be about a dozen of them."""

CHUNK = 25


def sample_exchanged(rng: np.random.Generator) -> Scene:
    """A scene of two things, each in the favourite colour of the other."""
    while True:
        scene = sample_scene(rng)
        if len(scene.things) == 2:
            first, second = scene.things
            colours = FAVOURITE_COLOUR[second.shape], FAVOURITE_COLOUR[first.shape]
            return Scene((replace(first, colour=colours[0]), replace(second, colour=colours[1])), scene.background)


@torch.no_grad()
def train(ranks: Ranks, computing: Computing, folder: Path, budget: float, seed: int = 3) -> None:
    """Encode this rank's share of the scenes into `latents.RANK.pt`; takes as long as it takes, whatever the budget."""
    finished = folder / f"latents.{ranks.rank}.pt"
    if finished.exists():
        return
    rng = np.random.default_rng((seed, ranks.rank))
    autoencoder = build_autoencoder()
    autoencoder.load_state_dict(load(folder / "vae.pt"))
    encoder = autoencoder.taesd_encoder.to(computing.device, memory_format=torch.channels_last)
    scenes, latents, start = [], [], time.monotonic()
    usual, total = SCENES // ranks.count, (SCENES + EXCHANGED_SCENES) // ranks.count
    while len(scenes) < total:
        numbers = range(len(scenes), min(len(scenes) + CHUNK, total))
        chunk = [sample_scene(rng) if number < usual else sample_exchanged(rng) for number in numbers]
        images = np.stack([render(scene) for scene in chunk])
        batch = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
        with computing.autocast():
            latents.append(encoder(batch.to(computing.device)).float().contiguous().half().cpu())
        scenes += chunk
        if ranks.first and len(scenes) % 500 == 0:
            left = (time.monotonic() - start) * (total / len(scenes) - 1.0)
            logging.info("latents: %d of %d, %.0f s left", len(scenes) * ranks.count, total * ranks.count, left)
    things = [[astuple(thing) for thing in scene.things] for scene in scenes]
    save_atomically({"latents": torch.cat(latents), "things": things}, finished)
