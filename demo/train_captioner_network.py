"""Stage 2 of the captioner: it learns to tell what pictures show, by the likelihood of true captions."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ..world.captions import sample_caption
from ..world.names import COLOURS, MARKS, SHAPES
from ..world.scenes import Scene, Thing
from .captioner_network import (
    IGNORED,
    PATCH_SIZE,
    PICTURE_SIZE,
    UNKNOWN,
    VOCABULARY,
    WIDTH,
    build_captioner,
    caption_losses,
    load_tokenizer,
    prepared,
    tokens_of,
    write_tokenizer,
)
from .captioner_world import NONE, content_of_patches, mirrored, pictured, sample_any_scene, spoilt
from .computing import Computing
from .muon import Muon
from .parallel import Ranks
from .progress import Checkpoint, Clock, learning_rate_factor, load, save_atomically
from .train_captioner_pictures import resized

LEARNING_RATE = 2e-3
WARM_UP = 40
SAVE_EVERY = 50
"""In steps."""

SCENES = 32
"""Per step and process."""

DECODED_SHARE = 0.5
"""Of the pictures: they went through the autoencoder. The others are rendered on the spot."""

UNKNOWN_PROBABILITY = 0.05
"""How often a word that the captioner goes on from is hidden, so that it looks at the picture rather than back."""

PATCH_WEIGHT = 0.5
CELLS = PICTURE_SIZE // PATCH_SIZE
ANSWERS = (len(SHAPES), len(COLOURS), len(MARKS) + 1)
"""What is told from each patch: shape, colour, and mark or none."""


class Decoded:
    """Scenes whose pictures went through the autoencoder, kept as bytes."""

    def __init__(self, path: Path):
        kept = load(path)
        self._pictures = kept["pictures"]
        self._scenes = [Scene(tuple(Thing(*each) for each in things), (0.0, 0.0, 0.0)) for things in kept["things"]]

    def sample(self, rng: np.random.Generator, count: int) -> tuple[list[Scene], torch.Tensor]:
        """Some of them, each as it is or mirrored, and their pictures ``(count, 3, S, S)``."""
        chosen = rng.integers(len(self._scenes), size=count)
        turned = rng.random(count) < 0.5
        pictures = self._pictures[torch.from_numpy(chosen)].float() / 255.0
        pictures[torch.from_numpy(turned)] = pictures[torch.from_numpy(turned)].flip(3)
        scenes = [self._scenes[place] for place in chosen]
        return [mirrored(scene) if turn else scene for scene, turn in zip(scenes, turned, strict=True)], pictures


def sample_batch(rng: np.random.Generator, decoded: Decoded, count: int) -> tuple[list[Scene], torch.Tensor]:
    """Scenes and their spoilt pictures ``(count, 3, S, S)``."""
    from_decoder = round(DECODED_SHARE * count)
    scenes, pictures = decoded.sample(rng, from_decoder)
    rendered = [sample_any_scene(rng) for _ in range(count - from_decoder)]
    pictures = torch.cat([pictures, resized(pictured(rendered))])
    return scenes + rendered, spoilt(rng, pictures)


def hidden(rng: np.random.Generator, ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Token ids with some of the scored ones replaced by that of unknown words."""
    drawn = torch.from_numpy(rng.random(tuple(ids.shape)) < UNKNOWN_PROBABILITY)
    return ids.masked_fill(drawn & (labels != IGNORED), VOCABULARY.index(UNKNOWN))


def patch_loss(answers: torch.Tensor, content: torch.Tensor) -> torch.Tensor:
    """Cross entropy of shape, colour and mark on the patches that a thing covers.

    ``answers (B, N, 6 + 6 + 3)`` are logits, ``content (B, 3, N)`` the numbers of the right ones or ``NONE``.
    """
    logits = answers.float().split(ANSWERS, 2)
    return sum(
        functional.cross_entropy(each.transpose(1, 2), content[:, place], ignore_index=NONE)
        for place, each in enumerate(logits)
    )


def build_optimisers(
    captioner: nn.Module, patches: nn.Module, computing: Computing
) -> tuple[torch.optim.Optimizer, ...]:
    """Muon for the matrices of the layers, AdamW for the rest: embeddings, biases and what is dropped afterwards."""
    matrices = [
        layer.weight
        for layer in captioner.modules()
        if isinstance(layer, nn.Linear) and layer is not captioner.text_decoder.cls.predictions.decoder
    ]
    taken = {id(each) for each in matrices}
    others = [each for each in (*captioner.parameters(), *patches.parameters()) if id(each) not in taken]
    return (
        Muon(matrices, LEARNING_RATE, computing.dtype),
        torch.optim.AdamW(others, LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.0),
    )


def train(ranks: Ranks, computing: Computing, folder: Path, budget: float, seed: int = 32) -> None:
    """Train for `budget` seconds; the result is `captioner.pt` in `folder`."""
    finished = folder / "captioner.pt"
    if finished.exists():
        return
    torch.manual_seed(seed)
    (folder / "captioner").mkdir(exist_ok=True)
    if ranks.first:
        write_tokenizer(folder / "captioner")
    ranks.barrier()
    tokenizer, decoded = load_tokenizer(folder / "captioner"), Decoded(folder / f"pictures.{ranks.rank}.pt")
    modules = nn.ModuleDict({"captioner": build_captioner(), "patches": nn.Linear(WIDTH, sum(ANSWERS))})
    captioner, patches = modules.to(computing.device).values()
    parameters, optimisers = list(modules.parameters()), build_optimisers(captioner, patches, computing)
    checkpoint = Checkpoint(folder / "captioner.checkpoint.pt", modules=modules, optimisers=optimisers)
    step, spent = checkpoint.restore()
    ranks.broadcast(modules)
    rng = np.random.default_rng((seed, ranks.rank, step))
    clock, progress, told = Clock(budget, spent), spent / budget, []
    while progress < 1.0:
        scenes, pictures = sample_batch(rng, decoded, SCENES)
        ids, labels = tokens_of(tokenizer, [sample_caption(rng, scene.things) for scene in scenes])
        content = torch.from_numpy(np.stack([content_of_patches(scene, CELLS) for scene in scenes])).flatten(2)
        pictures, masked, labels, content = computing.put(pictures, hidden(rng, ids, labels), labels, content)
        with computing.autocast():
            seen = captioner.vision_model(pixel_values=prepared(pictures)).last_hidden_state
            logits = captioner.text_decoder(input_ids=masked, encoder_hidden_states=seen).logits
            answers = patches(seen[:, 1:])
        caption, patch = caption_losses(logits, labels).mean(), patch_loss(answers, content)
        for optimiser in optimisers:
            optimiser.zero_grad()
        (caption + PATCH_WEIGHT * patch).backward()
        progress = ranks.average([each.grad for each in parameters if each.grad is not None], clock.progress)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        for optimiser in optimisers:
            optimiser.param_groups[0]["lr"] = LEARNING_RATE * learning_rate_factor(progress, step, WARM_UP)
            optimiser.step()
        told.append((float(caption.detach()), float(patch.detach())))
        step += 1
        if ranks.first and step % 25 == 0:
            means = np.mean(told[-25:], axis=0)
            logging.info("captioner step %d: %.3f, patches %.3f, %.0f s left", step, *means, budget - clock.spent)
        if ranks.first and step % SAVE_EVERY == 0:
            checkpoint.save(step, clock.spent)
    if ranks.first:
        save_atomically(captioner.state_dict(), finished)
    ranks.barrier()
