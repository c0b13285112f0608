"""CLIPScore (Hessel et al. 2021, arXiv 2104.08718): how near a picture is to captions, by CLIP or SigLIP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from ...pretrained.loading import Pretrained, as_bytes
from .judging import COSINE
from .questions import Question


@dataclass(frozen=True, kw_only=True)
class CaptionJudge(Pretrained):
    name: str
    measures: ClassVar[str] = COSINE

    def answer(self, picture: torch.Tensor, questions: Sequence[Question]) -> list[float]:
        """The cosines of a picture ``(H, W, 3)`` in 0..1 with the captions of the questions, cut to what it reads: 77
        tokens for CLIP. SigLIP was trained on captions in lower case, padded to the length it reads."""
        self.to_device()
        config, captions = self.module.config, [question.caption for question in questions]
        padded = config.model_type == "siglip"
        inputs = self.processor(
            images=as_bytes(picture),
            text=[caption.lower() for caption in captions] if padded else captions,
            padding="max_length" if padded else "longest",
            truncation=True,
            max_length=config.text_config.max_position_embeddings,
            return_tensors="pt",
        )
        with torch.no_grad():
            outputs = self.module(**inputs.to(self.device))
        return torch.cosine_similarity(outputs.image_embeds, outputs.text_embeds).tolist()
