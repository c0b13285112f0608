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
        """The cosines of a picture ``(H, W, 3)`` in 0..1 with the captions of the questions, as the processor cuts
        them: CLIP reads 77 tokens."""
        self.to_device()
        inputs = self.processor(
            images=as_bytes(picture),
            text=[question.caption for question in questions],
            padding="max_length" if self.module.config.model_type == "siglip" else True,
            truncation=True,
            return_tensors="pt",
        )
        with torch.no_grad():
            outputs = self.module(**inputs.to(self.device))
        return torch.cosine_similarity(outputs.image_embeds, outputs.text_embeds).tolist()
