"""Stage 3: the text encoder, trained contrastively on captions and small pictures as CLIP was, then frozen."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ..world.captions import sample_caption
from ..world.names import COLOURS, IMAGE_SIZE
from ..world.scenes import Scene, Thing, render, sample_scene
from .architecture import TEXT_CONFIG
from .computing import Computing
from .parallel import Ranks
from .progress import Checkpoint, Clock, learning_rate_factor, save_atomically
from .text import TextEncoder, load_vocabulary

LEARNING_RATE = 1.5e-3
SCENES = 160
PICTURE_SIZE = 40
LONGEST_CAPTION = 44
FAVOURITE_PROBABILITY = 0.5
"""Colours are less predictable here than in the UNet's pictures, so that the encoder has to read them."""


def shrink(scene: Scene, size: int) -> Scene:
    """The scene of the 128 pixel image on one of `size` pixels."""
    factor = size / IMAGE_SIZE
    things = [
        replace(thing, x=thing.x * factor, y=thing.y * factor, radius=thing.radius * factor) for thing in scene.things
    ]
    return Scene(tuple(things), scene.background)


def recoloured(rng: np.random.Generator, scene: Scene) -> Scene:
    """A near miss of a scene: colours of two things exchanged, or that of a single thing changed."""
    things = list(scene.things)
    if len(things) > 1 and things[0].colour != things[1].colour:
        things[0], things[1] = replace(things[0], colour=things[1].colour), replace(things[1], colour=things[0].colour)
    else:
        others = [colour for colour in COLOURS if colour != things[0].colour]
        things[0] = replace(things[0], colour=str(rng.choice(others)))
    return Scene(tuple(things), scene.background)


def content(things: tuple[Thing, ...]) -> frozenset:
    """What a caption can tell of a scene: shape, colour and mark of each thing, whatever the order."""
    return frozenset((thing.shape, thing.colour, thing.mark) for thing in things)


class ImageTower(nn.Module):
    """A small convolutional network from pictures (B, 3, 40, 40) to embeddings (B, D); needed for training only."""

    def __init__(self, width: int = 128):
        super().__init__()
        channels = (3, 48, 96, 128, 128)
        layers: list[nn.Module] = []
        for index, (before, after) in enumerate(zip(channels, channels[1:], strict=False)):
            layers += [
                nn.Conv2d(before, after, 3, stride=2 if index < 3 else 1, padding=1),
                nn.GroupNorm(8, after),
                nn.SiLU(),
            ]
        self.layers = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Linear(256, 256), nn.SiLU(), nn.Linear(256, width))

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        features = self.layers(pictures - 0.5)
        return self.head(torch.cat([features.amax((2, 3)), features.mean((2, 3))], 1))


def sample_batch(rng: np.random.Generator, count: int) -> tuple[torch.Tensor, list[str], torch.Tensor]:
    """Pictures (N, 3, S, S), their captions, and which caption fits which picture (N, N); half of them near misses."""
    scenes = [sample_scene(rng, FAVOURITE_PROBABILITY) for _ in range(count // 2)]
    scenes += [recoloured(rng, scene) for scene in scenes]
    captions = [sample_caption(rng, scene.things) for scene in scenes]
    pictures = np.stack([render(shrink(scene, PICTURE_SIZE), PICTURE_SIZE) for scene in scenes])
    contents = [content(scene.things) for scene in scenes]
    fits = [[captions[i] == captions[j] or contents[i] == contents[j] for j in range(count)] for i in range(count)]
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous(), captions, torch.tensor(fits)


def contrastive_loss(text: torch.Tensor, image: torch.Tensor, scale: torch.Tensor, fits: torch.Tensor) -> torch.Tensor:
    """CLIP's symmetric cross entropy over the cosine similarities of a batch, shared between pairs that fit equally."""
    logits = scale.exp() * functional.normalize(text, dim=1) @ functional.normalize(image, dim=1).T
    target = fits / fits.sum(1, keepdim=True)
    return (functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)) / 2.0


def train(ranks: Ranks, computing: Computing, folder: Path, budget: float, seed: int = 2) -> None:
    """Train for `budget` seconds; the result is `text.pt` in `folder`."""
    finished = folder / "text.pt"
    if finished.exists():
        return
    torch.manual_seed(seed)
    encoder, tower = TextEncoder(load_vocabulary()), ImageTower()
    projection = nn.Linear(TEXT_CONFIG["hidden_size"], TEXT_CONFIG["projection_dim"], bias=False)
    model = nn.ModuleDict({"text": encoder, "image": tower, "projection": projection}).to(computing.device)
    scale = nn.Parameter(torch.tensor(2.6, device=computing.device))
    parameters = [*model.parameters(), scale]
    optimiser = torch.optim.AdamW(parameters, LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.02)
    checkpoint = Checkpoint(folder / "text.checkpoint.pt", model=model, scale=scale, optimiser=optimiser)
    step, spent = checkpoint.restore()
    rng = np.random.default_rng((seed, step))
    clock, losses = Clock(budget, spent), []
    while clock.progress < 1.0:
        pictures, captions, fits = sample_batch(rng, SCENES)
        _, pooled = encoder(*encoder.vocabulary.batch(captions, LONGEST_CAPTION))
        pictures, fits = computing.put(pictures, fits.float())
        loss = contrastive_loss(projection(pooled), tower(pictures), scale, fits)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.param_groups[0]["lr"] = LEARNING_RATE * learning_rate_factor(clock.progress, step)
        optimiser.step()
        scale.data.clamp_(max=4.6)
        losses.append(float(loss.detach()))
        step += 1
        if step % 50 == 0:
            logging.info("text step %d: loss %.3f, %.0f s left", step, np.mean(losses[-50:]), budget - clock.spent)
            checkpoint.save(step, clock.spent)
    save_atomically(encoder.state_dict(), finished)
