"""Vision language models of transformers, asked how likely yes is as the first token of their answer (VQAScore, Lin et
al. 2024, arXiv 2404.01291; soft TIFA of GenEval 2, arXiv 2512.16853)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import comfy.model_management
import torch

from ...pretrained.loading import Pretrained, as_bytes
from .judging import PROBABILITY
from .questions import Question
from .yes_no import answer_tokens, share_of_yes

REQUEST = "Answer with one word: yes or no."
PALIGEMMA = "paligemma"


@dataclass(frozen=True, kw_only=True)
class VisionLanguageJudge(Pretrained):
    name: str
    measures: ClassVar[str] = PROBABILITY

    def answer(self, picture: torch.Tensor, questions: Sequence[Question]) -> list[float]:
        """For a picture ``(H, W, 3)`` in 0..1; each question is asked by itself.

        Raises:
            ValueError: it is not known how the model is asked, or its tokenizer has no yes or no.
        """
        self.to_device()
        tokenizer = self.processor.tokenizer
        yes, no = answer_tokens(lambda text: tokenizer.encode(text, add_special_tokens=False), tokenizer.unk_token_id)
        image, dtype = as_bytes(picture), next(self.module.parameters()).dtype
        found = []
        for question in questions:
            comfy.model_management.throw_exception_if_processing_interrupted()
            inputs = self.processor(images=image, text=self.prompt(question.text), return_tensors="pt")
            inputs.pop("labels", None)
            with torch.no_grad():
                logits = self.module(**inputs.to(self.device, dtype)).logits[0, -1]
            found.append(share_of_yes(logits, yes, no).item())
        return found

    def prompt(self, question: str) -> str:
        """The question as the model is asked it: in its chat template, or in PaliGemma's words for questions.

        Raises:
            ValueError: it has neither.
        """
        if getattr(self.processor, "chat_template", None):
            content = [{"type": "image"}, {"type": "text", "text": f"{question} {REQUEST}"}]
            return self.processor.apply_chat_template(
                [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
            )
        if self.module.config.model_type == PALIGEMMA:
            return f"<image>answer en {question}"
        raise ValueError(
            f"The model {self.name} ({self.module.config.model_type}) has no chat template, so that it is not known "
            "how to ask it. Look for a variant trained for instructions, and see that its folder has all files, "
            "chat_template.json or .jinja too."
        )
