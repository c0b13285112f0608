"""Stage 1 of the subject adapter: scenes with subjects, encoded once, with where their things are."""

import logging
from dataclasses import astuple
from pathlib import Path

import numpy as np
import torch

from ..world.subjects import SubjectScene, coverage, render, sample_scene
from .architecture import LATENT_CHANNELS, LATENT_SIZE, VAE_PREFIX
from .computing import Computing
from .loader import read_weights
from .networks import build_autoencoder
from .parallel import Ranks
from .progress import save_atomically

SCENES = 8000
CHUNK = 25
MOST_THINGS = 2


@torch.no_grad()
def train(ranks: Ranks, computing: Computing, folder: Path, budget: float, seed: int = 21) -> None:
    """Encode this rank's share of the scenes into `scenes.RANK.pt`; takes as long as it takes, whatever the budget."""
    finished = folder / f"scenes.{ranks.rank}.pt"
    if finished.exists():
        return
    rng = np.random.default_rng((seed, ranks.rank))
    weights = read_weights()
    autoencoder = build_autoencoder()
    autoencoder.load_state_dict(
        {name.removeprefix(VAE_PREFIX): value for name, value in weights.items() if name.startswith(VAE_PREFIX)},
        strict=False,
    )
    encoder = autoencoder.taesd_encoder.to(computing.device, memory_format=torch.channels_last)
    count = SCENES // ranks.count
    scenes: list[SubjectScene] = []
    latents = torch.empty(count, LATENT_CHANNELS, LATENT_SIZE, LATENT_SIZE, dtype=torch.float16)
    masks = torch.zeros(count, MOST_THINGS, LATENT_SIZE, LATENT_SIZE, dtype=torch.float16)
    while len(scenes) < count:
        chunk = [sample_scene(rng) for _ in range(min(CHUNK, count - len(scenes)))]
        images = torch.from_numpy(np.stack([render(scene) for scene in chunk])).permute(0, 3, 1, 2)
        with computing.autocast():
            encoded = encoder(images.to(computing.device, memory_format=torch.channels_last))
        latents[len(scenes) : len(scenes) + len(chunk)] = encoded
        for scene in chunk:
            for place, thing in enumerate(scene.things):
                masks[len(scenes), place] = torch.from_numpy(coverage(thing, LATENT_SIZE))
            scenes.append(scene)
        if ranks.first and len(scenes) % 500 == 0:
            logging.info("scenes: %d of %d", len(scenes) * ranks.count, SCENES)
    plain = [
        (
            [astuple(thing) for thing in scene.things],
            [None if subject is None else astuple(subject) for subject in scene.subjects],
        )
        for scene in scenes
    ]
    save_atomically({"latents": latents, "masks": masks, "scenes": plain}, finished)
