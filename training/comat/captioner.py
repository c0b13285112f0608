"""How likely a captioner finds a prompt, given a picture: CoMat's concept matching (Jiang et al. 2024, arXiv
2404.03653) with BLIP (Li et al. 2022, arXiv 2201.12086), as its published code asks it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from ...attention.engine.gradient import differentiable
from .losses import SMOOTHING, negative_log_likelihood

PREFIX = "a photography of"
"""What BLIP's captions begin with. It is given and not scored."""


@dataclass(frozen=True)
class Captioner:
    """BLIP for captions and what it needs to read.

    Args:
        patcher: a ComfyUI ModelPatcher; its model's ``module`` is the BlipForConditionalGeneration of transformers.
        tokenizer: BERT's.
        mean, std: of the colours in its training, for values from 0 to 1.
        lacking: weights that its files do not have, which are random.
    """

    patcher: Any
    tokenizer: Any
    mean: tuple[float, ...]
    std: tuple[float, ...]
    lacking: tuple[str, ...] = ()

    @property
    def module(self) -> torch.nn.Module:
        return self.patcher.model.module

    @property
    def device(self) -> torch.device:
        return self.patcher.load_device

    def memory(self, pictures: int) -> float:
        """Bytes that so many pictures keep for a backward pass, beside the weights; 1.2 GB each for BLIP large."""
        vision, text = self.module.config.vision_config, self.module.config.text_config
        tokens = (vision.image_size // vision.patch_size) ** 2 + 1
        # Of each layer the inputs of norms, activation and residuals, and the attention; measured to within a tenth.
        of_layer = tokens * (6 * vision.hidden_size + vision.intermediate_size) + vision.num_attention_heads * tokens**2
        of_text = 4 * text.num_hidden_layers * tokens * text.hidden_size
        return 4.0 * pictures * (vision.num_hidden_layers * of_layer + of_text)

    def negative_log_likelihood(
        self, images: torch.Tensor, prompts: Sequence[str], smoothing: float = SMOOTHING
    ) -> torch.Tensor:
        """``(B,)``: how badly each picture tells of its prompt, with gradients to the pictures.

        To be called when the patcher's model is on its device. In the published code, pictures of SDXL come from -1 to
        1 by mistake; this wants 0 to 1 of every model.

        Args:
            images: ``(B, H, W, 3)``, 0 to 1; values a little beyond are taken as they are.
            prompts: as many. BLIP reads them in lower case.
            smoothing: of the labels, see ``losses.negative_log_likelihood``.

        Raises:
            ValueError: there are more or fewer prompts than pictures, or one is too long.
        """
        if len(prompts) != len(images):
            raise ValueError(
                f"There are {len(images)} pictures and {len(prompts)} prompts; each picture needs its own."
            )
        tokens, given = self._tokens(prompts)
        with differentiable(self.module):
            logits = self.module(self._pixels(images), tokens, attention_mask=given.long()).logits
            return negative_log_likelihood(logits, tokens, self._scored(given), smoothing)

    def _pixels(self, images: torch.Tensor) -> torch.Tensor:
        """Pictures as BLIP sees them, ``(B, 3, h, w)``; one that is no square is squeezed into one."""
        weight = next(self.module.parameters())
        size = self.module.config.vision_config.image_size
        pixels = images.movedim(-1, 1).to(weight)
        pixels = F.interpolate(pixels, (size, size), mode="bicubic", antialias=True)
        mean, std = (torch.tensor(each).to(pixels)[:, None, None] for each in (self.mean, self.std))
        return (pixels - mean) / std

    def check(self, prompts: Sequence[str]) -> None:
        """Raise ValueError if a prompt is too long for it."""
        self._read(prompts)

    def _tokens(self, prompts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """The prompts behind the prefix, ``(B, T)``, and where there is no padding."""
        read = self._read(prompts)
        return read["input_ids"].to(self.device), read["attention_mask"].to(self.device, torch.bool)

    def _read(self, prompts: Sequence[str]) -> Any:
        texts = [f"{PREFIX} {prompt.lower()}" for prompt in prompts]
        read = self.tokenizer(texts, padding="longest", return_tensors="pt")
        limit = self.module.config.text_config.max_position_embeddings
        if read["input_ids"].shape[1] > limit:
            longest = max(prompts, key=len)
            raise ValueError(
                f"The captioner reads {limit} tokens and the longest prompt has {read['input_ids'].shape[1]}: "
                f"{longest[:80]} ... Shorten it."
            )
        return read

    def _scored(self, given: torch.Tensor) -> torch.Tensor:
        """Where the tokens of the prompts are, and those that end them."""
        prefix = len(self.tokenizer(PREFIX)["input_ids"]) - 1
        return given & (torch.arange(given.shape[1], device=given.device) >= prefix)
