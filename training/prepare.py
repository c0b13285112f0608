"""Training data as the network takes it: latents, encoded captions, and the rows of their nouns."""

from __future__ import annotations

import re
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import comfy.model_management
import comfy.utils
import numpy as np
import torch
from PIL import Image

from ..parsing.binding import EncoderTokens
from ..parsing.encoding import encode, tokenized
from ..parsing.manual import occurrences
from ..parsing.syntax import plain
from ..parsing.tokens import align
from .data import Item, TrainingData
from .grounding import Nouns
from .masks import crop_of, cropped, opened, opened_mask

UNESCAPED = re.compile(r"(?<!\\)([()])")


@dataclass(frozen=True, eq=False)
class Sample:
    """One picture: its latent ``(C, h, w)`` scaled as a sampler has it, its caption's context ``(T, D)``, for SDXL the
    vector ``(Y,)`` of pooled caption and sizes, and its nouns with masks in the size of the picture. On the CPU."""

    latent: torch.Tensor
    context: torch.Tensor
    vector: torch.Tensor | None
    nouns: Nouns
    caption: str


class TrainingSet(NamedTuple):
    """Samples in the order of the items, and a line for whatever of the captions was left out."""

    samples: tuple[Sample, ...]
    notes: tuple[str, ...]


class Caption(NamedTuple):
    """A caption encoded: context ``(1, T, D)`` of its first chunk, pooled ``(1, P)`` if the encoder has one, its plain
    ``text``, and which characters of it each row of each encoder stands for."""

    context: torch.Tensor
    pooled: torch.Tensor | None
    text: str
    encoders: tuple[EncoderTokens, ...]

    def rows(self, noun: str) -> tuple[int, ...]:
        """The rows of a noun's first occurrence, as published; none if it lies past the first chunk."""
        spans = occurrences(noun, self.text)[:1]
        found = {row for each in self.encoders for row in each.positions(spans)}
        return tuple(sorted(row for row in found if row < self.context.shape[1]))


def encoded_caption(clip, caption: str) -> Caption:
    """A caption as plain text: its parentheses are no weights. What goes beyond the first chunk, of 75 tokens, is
    cut, as the published code does.

    Raises:
        ValueError: a text encoder that cannot be bound, or one that another node has changed.
    """
    prompt = UNESCAPED.sub(r"\\\1", caption)
    text = plain(prompt)
    tokens, vocabularies = tokenized(clip, prompt)
    encoders = align(tokens, vocabularies, text)
    context, options = encode(clip, {key: chunks[:1] for key, chunks in tokens.items()})[0]
    return Caption(context, options.get("pooled_output"), text.text, encoders)


def vector_of(model, pooled: torch.Tensor | None, shape: tuple[int, int], size: int) -> torch.Tensor | None:
    """SDXL's vector ``(1, Y)`` of a picture of (width, height) that was cropped to a square, None for other models.

    It has the true sizes and the corner of the crop, as SDXL was trained (Podell et al. 2023, arXiv 2307.01952, 2.2).
    """
    crop = crop_of(shape, size)
    return model.model.encode_adm(
        pooled_output=pooled,
        width=shape[0],
        height=shape[1],
        crop_w=crop.left,
        crop_h=crop.top,
        target_width=size,
        target_height=size,
        device=torch.device("cpu"),
    )


def encoded_picture(model, vae, picture: Image.Image) -> torch.Tensor:
    """The latent ``(1, C, h, w)`` of a picture, scaled as a sampler has it.

    It is the mean of the autoencoder's distribution, as ComfyUI encodes. The published code draws from the distribution
    anew each time, which would have every picture encoded again at every step.
    """
    pixels = torch.from_numpy(np.array(picture)).float()[None] / 255
    return model.model.process_latent_in(vae.encode(pixels))


def encoded(data: TrainingData, model, vae, clip, say: Callable[[str], None] = lambda text: None) -> TrainingSet:
    """All samples of the data; those of the last call are kept and given again while data and encoders are the same.

    Args:
        say: is told how far it is, picture by picture.

    Raises:
        ValueError: there is no VAE or text encoder, or they cannot be used; the message names the picture.
    """
    without = vae is not None and vae.first_stage_model is None  # as ComfyUI loads a checkpoint that has none
    for name, side in (("VAE", None if without else vae), ("CLIP", clip)):
        if side is None:
            raise ValueError(f"There is no {name}: the checkpoint has none. Load one and connect it.")
    key = _key(data, model, vae, clip)
    if key not in _last:
        found = _encoded(data, model, vae, clip, say)
        _last.clear()
        _last[key] = found
    return _last[key]


_last: dict[tuple, TrainingSet] = {}


def _key(data: TrainingData, model, vae, clip) -> tuple:
    """All that samples depend on. Networks are told by identity, and by the patches on them."""
    networks = map(weakref.ref, (model.model, vae.first_stage_model, clip.cond_stage_model))
    patches = vae.patcher.patches_uuid, clip.patcher.patches_uuid, clip.layer_idx
    return data.digest, data.size, data.items, *networks, *patches


def _encoded(data: TrainingData, model, vae, clip, say) -> TrainingSet:
    progress = comfy.utils.ProgressBar(len(data.items))
    samples, notes = [], []
    for number, item in enumerate(data.items, 1):
        comfy.model_management.throw_exception_if_processing_interrupted()
        say(f"encoding picture {number} of {len(data.items)}")
        try:
            with torch.inference_mode():
                sample = _sample(item, data.size, model, vae, clip, notes)
        except ValueError as error:
            raise ValueError(f"{item.picture}: {error}") from error
        samples.append(_ordinary(sample))
        progress.update(1)
    return TrainingSet(tuple(samples), tuple(notes))


def _sample(item: Item, size: int, model, vae, clip, notes: list[str]) -> Sample:
    picture = opened(item.picture)
    caption = encoded_caption(clip, item.caption)
    if any(each.length > caption.context.shape[1] for each in caption.encoders):
        notes.append(f"{item.picture.name}: its caption is longer than 75 tokens, the rest is left out")
    rows, masks = [], []
    for noun, path in item.masks:
        of_noun = caption.rows(noun) if path else ()
        if path and not of_noun:
            notes.append(f"{item.picture.name}: {noun} is in that rest, its mask is left out")
        if of_noun:
            rows.append(of_noun)
            masks.append(torch.from_numpy(np.array(cropped(opened_mask(path), size))) > 0)
    return Sample(
        latent=encoded_picture(model, vae, cropped(picture, size))[0],
        context=caption.context[0],
        vector=_first(vector_of(model, caption.pooled, picture.size, size)),
        nouns=Nouns(tuple(rows), torch.stack(masks) if masks else torch.zeros(0, size, size, dtype=torch.bool)),
        caption=item.caption,
    )


def _first(tensor: torch.Tensor | None) -> torch.Tensor | None:
    return None if tensor is None else tensor[0]


def _ordinary(sample: Sample) -> Sample:
    """With ordinary tensors on the CPU in place of those of inference mode, which gradients cannot pass."""
    with torch.inference_mode(False):

        def kept(tensor: torch.Tensor) -> torch.Tensor:
            return tensor.detach().cpu().float().clone()

        nouns = Nouns(sample.nouns.rows, sample.nouns.masks.clone())
        vector = None if sample.vector is None else kept(sample.vector)
        return Sample(kept(sample.latent), kept(sample.context), vector, nouns, sample.caption)
