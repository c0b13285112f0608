"""Pictures of fixed prompts, drawn with the adapters as they are while a training runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import comfy.sample
import comfy.utils
import numpy as np
import torch
from PIL import Image

from .lora import Adapters
from .network import Network

STEPS, CFG, SAMPLER, SCHEDULER = 20, 5.0, "euler", "normal"


@dataclass(frozen=True)
class Preview:
    """Prompts, their conditionings and that of the negative prompt, the autoencoder, the size ``(C, h, w)`` of the
    latents, and the seed of their noise."""

    captions: tuple[str, ...]
    positive: tuple[list, ...]
    negative: list
    vae: object
    shape: tuple[int, int, int]
    seed: int


def preview_of(clip, vae, prompts: Sequence[str], shape: tuple[int, int, int], seed: int) -> Preview | None:
    """None without prompts."""
    if not prompts:
        return None
    positive, negative = [*(_encoded(clip, prompt) for prompt in prompts)], _encoded(clip, "")
    return Preview(tuple(prompts), tuple(positive), negative, vae, shape, seed)


def _encoded(clip, text: str) -> list:
    return clip.encode_from_tokens_scheduled(clip.tokenize(text))


@torch.inference_mode()
def drawn(preview: Preview, network: Network, adapters: Adapters) -> list[Image.Image]:
    """A picture for each prompt, always of the same noise."""
    latent = torch.zeros(1, *preview.shape)
    pictures = []
    with network.acting(adapters):
        for positive in preview.positive:
            noise = comfy.sample.prepare_noise(latent, preview.seed)
            samples = comfy.sample.sample(
                network.patcher,
                noise,
                STEPS,
                CFG,
                SAMPLER,
                SCHEDULER,
                positive,
                preview.negative,
                latent,
                disable_pbar=True,
                seed=preview.seed,
            )
            pixels = preview.vae.decode(samples)[0].float().cpu().clamp(0, 1)
            pictures.append(Image.fromarray((pixels.numpy() * 255).round().astype(np.uint8)))
    return pictures
