"""Stage 3 of the subject adapter: fusion and UNet by FastComposer's losses.

Half of the pictures with little noise count on their subjects alone, and rows of subjects are to be looked at from
where these are.
"""

from pathlib import Path

import numpy as np
import torch

from ..subjects.fusion import FusionHead
from ..world.captions import OPENING_PROBABILITY, OPENINGS, join, with_article
from ..world.scenes import Thing
from ..world.subjects import Subject, reference
from .architecture import TEXT_CONFIG, TEXT_PREFIX, TOKEN_IDS_KEY, TOKEN_ROWS_KEY, UNET_PREFIX
from .averaging import Stage, run, split_parameters
from .computing import Computing
from .diffusion import alphas_cumulative, loss_weights, noised, spread_timesteps
from .loader import read_weights
from .muon import Muon
from .networks import build_unet
from .parallel import Ranks
from .progress import load
from .subject_losses import WatchedAttention, localisation_loss
from .subject_networks import SubjectEncoder
from .text import PAD_TO, TextEncoder, load_vocabulary, words_of
from .train_subject_scenes import MOST_THINGS

UNET_RATE, FUSION_RATE = 1e-3, 1e-3
BATCH = 16
"""Pictures per step and process."""

CAPTION_DROP_PROBABILITY = 0.12
APPEAR_PROBABILITY = 0.9
"""A subject's picture is given; else its noun stays as it is, as in the steps that have the text alone."""

CUT_OUT_PROBABILITY = 0.5
SUBJECTS_ALONE_PROBABILITY = 0.5
SUBJECTS_ALONE_SIGNAL = 0.5
"""The least share of the signal's variance of pictures that may count on their subjects alone. With more noise than
signal a picture does not show where its subjects are, and a loss that counts nowhere else is least for a subject drawn
everywhere: without this bound the model drew two things for one, and three for two."""

LOCALISATION_WEIGHT = 0.01
"""The published code's default; its script for faces has 0.001."""


class Scenes:
    """All cached scenes: latents, masks ``(N, 2, 16, 16)``, things and their subjects."""

    def __init__(self, folder: Path):
        parts = [load(path) for path in sorted(folder.glob("scenes.?.pt"))]
        self.latents = torch.cat([part["latents"] for part in parts])
        self.masks = torch.cat([part["masks"] for part in parts])
        scenes = [scene for part in parts for scene in part["scenes"]]
        self.things = [tuple(Thing(*values) for values in things) for things, _ in scenes]
        self.subjects = [tuple(None if each is None else Subject(*each) for each in found) for _, found in scenes]


def text_encoder() -> TextEncoder:
    """The demo model's, frozen."""
    weights, encoder = read_weights(), TextEncoder(load_vocabulary())
    if encoder.vocabulary.token_ids != weights[TOKEN_IDS_KEY].tolist():
        raise ValueError("The demo model's words are others than those of demo/text.py.")
    state = {"token_rows.weight": weights[TOKEN_ROWS_KEY]}
    state |= {
        f"text_model.{name.removeprefix(TEXT_PREFIX)}": value
        for name, value in weights.items()
        if name.startswith(TEXT_PREFIX)
    }
    encoder.load_state_dict(state)
    return encoder.requires_grad_(False)


def trained_unet() -> torch.nn.Module:
    """The demo model's."""
    unet = build_unet()
    weights = read_weights()
    unet.load_state_dict(
        {name.removeprefix(UNET_PREFIX): value for name, value in weights.items() if name.startswith(UNET_PREFIX)}
    )
    return unet


def fresh_fusion(encoder: TextEncoder) -> FusionHead:
    """A fusion head whose rows have the statistics of the text encoder's."""
    width = TEXT_CONFIG["hidden_size"]
    fusion = FusionHead(width, (width, width)).requires_grad_(True)
    fusion.layer_norm.load_state_dict(encoder.text_model.final_layer_norm.state_dict())
    return fusion


def sample_caption(rng: np.random.Generator, things, subjects) -> tuple[str, list[int]]:
    """A caption of the things in any order, subjects by their noun alone; and of each thing the row of its noun."""
    order = rng.permutation(len(things))
    opening = str(rng.choice(OPENINGS)) if rng.random() < OPENING_PROBABILITY else ""
    phrases = [
        with_article(things[i].shape if subjects[i] is not None else f"{things[i].colour} {things[i].shape}")
        for i in order
    ]
    caption = opening + join(phrases)
    words = words_of(caption)
    return caption, [1 + words.index(thing.shape) for thing in things]


class Batch:
    """Captions of some scenes, and of the subjects that are given by a picture, where ``valid`` is 1, the rows of their
    nouns and in this order the pictures. ``rows`` and ``valid`` are ``(B, 2)``."""

    def __init__(self, rng: np.random.Generator, scenes: Scenes, chosen: np.ndarray):
        self.captions: list[str] = []
        self.rows = torch.zeros(len(chosen), MOST_THINGS, dtype=torch.long)
        self.valid = torch.zeros(len(chosen), MOST_THINGS)
        pictures = []
        for item, index in enumerate(chosen):
            things, subjects = scenes.things[index], scenes.subjects[index]
            caption, rows = sample_caption(rng, things, subjects)
            if rng.random() < CAPTION_DROP_PROBABILITY:
                self.captions.append("")
                continue
            self.captions.append(caption)
            for place, (row, subject) in enumerate(zip(rows, subjects, strict=True)):
                if subject is not None and rng.random() < APPEAR_PROBABILITY:
                    self.rows[item, place], self.valid[item, place] = row, 1.0
                    pictures.append(reference(rng, subject, cut_out=rng.random() < CUT_OUT_PROBABILITY))
        self.pictures = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)


def fused_contexts(batch: Batch, text: TextEncoder, encoder: SubjectEncoder, fusion: FusionHead) -> torch.Tensor:
    """Context rows (B, 77, D), those of subjects fused with their pictures."""
    contexts = text.encode(batch.captions)
    items, places = batch.valid.nonzero(as_tuple=True)
    rows = batch.rows[items, places]
    fused = fusion(contexts[items, rows], encoder(batch.pictures.to(contexts.device)).float())
    return contexts.index_put((items, rows), fused)


def train(ranks: Ranks, computing: Computing, folder: Path, budget: float, seed: int = 23) -> None:
    """Train for `budget` seconds; the result, averaged weights and those of the encoder, is `adapter.pt` in `folder`.

    The encoder stays as it is. Trained along, it forgot what does not help while there is much noise: after 8500 steps
    a small network told the colours of two-tone subjects from its embeddings with an error of .16, and not of .02.
    """
    if (folder / "adapter.pt").exists():
        return
    torch.manual_seed(seed)
    scenes, text, unet, encoder = Scenes(folder), text_encoder(), trained_unet(), SubjectEncoder()
    encoder.load_state_dict(load(folder / "encoder.pt"))
    encoder.requires_grad_(False)
    fusion = fresh_fusion(text)
    for network in (text, unet, encoder, fusion):
        network.to(computing.device)
    ranks.broadcast(fusion)
    matrices, others = split_parameters(unet)
    optimisers = (
        Muon(matrices, UNET_RATE, computing.dtype),
        torch.optim.AdamW(others, UNET_RATE, betas=(0.9, 0.99), weight_decay=0.0),
        torch.optim.AdamW(fusion.parameters(), FUSION_RATE, betas=(0.9, 0.99), weight_decay=0.0),
    )
    networks = torch.nn.ModuleDict({"unet": unet, "postfuse_module": fusion})
    alphas = alphas_cumulative()
    weights = loss_weights(alphas)

    def losses(rng: np.random.Generator, progress: float):
        chosen = rng.choice(len(scenes.things), BATCH, replace=False)
        batch = Batch(rng, scenes, chosen)
        masks = scenes.masks[chosen].float()
        timesteps = spread_timesteps(BATCH)
        noisy, noise, signal = noised(scenes.latents[chosen].float(), timesteps, alphas)
        alone = torch.from_numpy(rng.random(BATCH) < SUBJECTS_ALONE_PROBABILITY)
        alone = (alone & batch.valid.any(1) & (signal.flatten() > SUBJECTS_ALONE_SIGNAL)).float()
        union = (masks * batch.valid[..., None, None]).amax(1)
        counted = torch.lerp(torch.ones_like(union), union, alone[:, None, None])
        noisy, noise, timesteps, weight = computing.put(noisy, noise, timesteps, weights[timesteps])
        masks, counted, rows, valid = computing.put(masks, counted, batch.rows, batch.valid)
        watched = WatchedAttention(rows, PAD_TO)
        with computing.autocast():
            contexts = fused_contexts(batch, text, encoder, fusion)
            predicted = unet(
                noisy, timesteps, context=contexts, transformer_options={"optimized_attention_override": watched}
            )
        error = (predicted.float() - noise).square().mean(1)
        noise_loss = (weight * (error * counted).sum((1, 2)) / counted.sum((1, 2)).clamp(min=1.0)).mean()
        location = localisation_loss(watched.seen, masks, valid)
        return noise_loss + LOCALISATION_WEIGHT * location, {"loss": noise_loss, "localisation": location}

    stage = Stage(
        "adapter",
        dict(networks.named_parameters()),
        optimisers,
        rates=(UNET_RATE, UNET_RATE, FUSION_RATE),
        parts={"networks": networks},
        beside={f"image_encoder.{name}": value.data for name, value in encoder.clip.named_parameters()},
    )
    run(stage, losses, ranks, folder, budget, seed)
