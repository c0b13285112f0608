"""The demo world's captioner: BLIP (arXiv 2201.12086) of transformers in a small size, and its words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

from .text import WORDS

if TYPE_CHECKING:
    from transformers import BertTokenizer, BlipForConditionalGeneration

PICTURE_SIZE, PATCH_SIZE = 96, 12
MEAN, DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""Of CLIP's pictures, which BLIP's are scaled by."""

PREFIX = "a photography of"
"""CoMat asks for the likelihood of what follows these words (arXiv 2404.03653)."""

SPECIAL = PADDING, UNKNOWN, START, END, MASKED = "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"
VOCABULARY = tuple(dict.fromkeys((*SPECIAL, *WORDS, *PREFIX.split())))
"""Any other word is [UNK]."""

LONGEST = 64
WIDTH, HEADS = 128, 4
VISION = {
    "hidden_size": WIDTH,
    "intermediate_size": 384,
    "num_hidden_layers": 4,
    "num_attention_heads": HEADS,
    "image_size": PICTURE_SIZE,
    "patch_size": PATCH_SIZE,
    "initializer_range": 0.02,
}
TEXT = {
    "vocab_size": len(VOCABULARY),
    "hidden_size": WIDTH,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": HEADS,
    "max_position_embeddings": LONGEST,
    "bos_token_id": VOCABULARY.index(START),
    "eos_token_id": VOCABULARY.index(END),
    "sep_token_id": VOCABULARY.index(END),
    "pad_token_id": VOCABULARY.index(PADDING),
}
"""The layers of BLIP's two halves. Generation starts with the token that scored captions start with."""

IGNORED = -100


@torch.no_grad()
def build_captioner() -> BlipForConditionalGeneration:
    """A fresh one. BLIP's own initialisation is for much wider layers: linear layers are Lecun-normal here."""
    from transformers import BlipConfig, BlipForConditionalGeneration

    captioner = BlipForConditionalGeneration(BlipConfig(text_config=TEXT, vision_config=VISION))
    tied = captioner.text_decoder.cls.predictions.decoder
    for layer in captioner.modules():
        if isinstance(layer, nn.Linear) and layer is not tied:
            nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
    return captioner


def write_tokenizer(folder: Path) -> None:
    """The tokenizer's files, for all versions of transformers."""
    from transformers import BertTokenizer

    words = folder / "vocab.txt"
    words.write_text("\n".join(VOCABULARY) + "\n", "utf-8")
    BertTokenizer(str(words), model_max_length=LONGEST).save_pretrained(folder)


def load_tokenizer(folder: Path) -> BertTokenizer:
    """The tokenizer of a folder."""
    from transformers import BertTokenizer

    return BertTokenizer.from_pretrained(folder, local_files_only=True)


def tokens_of(tokenizer: BertTokenizer, captions: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids ``(B, L)`` of captions after ``PREFIX``, and labels of what is scored: neither prefix nor padding."""
    encoded = tokenizer(
        [f"{PREFIX} {caption}" for caption in captions],
        padding=True,
        truncation=True,
        max_length=LONGEST,
        return_tensors="pt",
    )
    labels = encoded["input_ids"].masked_fill(encoded["attention_mask"] == 0, IGNORED)
    labels[:, : 1 + len(PREFIX.split())] = IGNORED
    return encoded["input_ids"], labels


def prepared(pictures: torch.Tensor) -> torch.Tensor:
    """Pictures ``(B, 3, H, W)`` in 0..1 as the captioner sees them, ``(B, 3, S, S)``, as BLIP's processor does."""
    size = (PICTURE_SIZE, PICTURE_SIZE)
    if tuple(pictures.shape[-2:]) != size:
        pictures = functional.interpolate(pictures, size=size, mode="bicubic", antialias=True).clamp(0.0, 1.0)
    mean, deviation = (torch.tensor(each, device=pictures.device)[:, None, None] for each in (MEAN, DEVIATION))
    return (pictures - mean) / deviation


def caption_losses(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The mean negative log-likelihood of each caption's scored tokens ``(B,)``, from logits ``(B, L, V)``."""
    losses = functional.cross_entropy(
        logits[:, :-1].float().transpose(1, 2), labels[:, 1:], reduction="none", ignore_index=IGNORED
    )
    return losses.sum(1) / (labels[:, 1:] != IGNORED).sum(1)
