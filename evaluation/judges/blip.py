"""BLIP for questions (Li et al. 2022, arXiv 2201.12086), asked how likely yes is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from ...pretrained.loading import Pretrained, as_bytes
from .judging import PROBABILITY
from .questions import Question
from .yes_no import answer_tokens, share_of_yes

PUBLISHED_SIZE = 480
PUBLISHED_TOKENS = 35
"""The pictures, and the tokens of a question, in T2I-CompBench's code."""


@dataclass(frozen=True, kw_only=True)
class BlipJudge(Pretrained):
    """``as_published``: it is asked as in T2I-CompBench, with pictures of 480 pixels, for which its embeddings of
    places are interpolated."""

    name: str
    as_published: bool = False
    measures: ClassVar[str] = PROBABILITY

    def answer(self, picture: torch.Tensor, questions: Sequence[Question]) -> list[float]:
        """For a picture ``(H, W, 3)`` in 0..1; questions are read in lower case.

        Raises:
            ValueError: a question is too long, or the tokenizer has no yes or no.
        """
        self.to_device()
        tokenizer = self.processor.tokenizer
        yes, no = answer_tokens(lambda text: tokenizer.encode(text, add_special_tokens=False), tokenizer.unk_token_id)
        with torch.no_grad():
            seen = self.module.vision_model(self._pixels(picture), interpolate_pos_encoding=self.as_published)[0]
            return [share_of_yes(self._first_logits(seen, question.text), yes, no).item() for question in questions]

    def _first_logits(self, seen: torch.Tensor, question: str) -> torch.Tensor:
        """``(V,)``: of the first token of the answer, of an encoded picture ``(1, T, C)``.

        Each question is asked by itself: in a batch, the decoder of transformers sees the padding of shorter ones.
        """
        states = self.module.text_encoder(self._read(question.lower()), encoder_hidden_states=seen)[0]
        start = torch.full((1, 1), self.module.config.text_config.bos_token_id, device=self.device)
        return self.module.text_decoder(start, encoder_hidden_states=states).logits[0, 0]

    def _pixels(self, picture: torch.Tensor) -> torch.Tensor:
        """``(1, 3, h, w)``: one that is no square is squeezed into one."""
        size = PUBLISHED_SIZE if self.as_published else self.module.config.vision_config.image_size
        images = self.processor.image_processor(
            as_bytes(picture), size={"height": size, "width": size}, return_tensors="pt"
        )
        return images["pixel_values"].to(self.device, next(self.module.parameters()).dtype)

    def _read(self, text: str) -> torch.Tensor:
        """A question's tokens ``(1, T)``.

        The first is [ENC], as in the published code and in BLIP's training; transformers leaves [CLS] there.
        """
        sizes = self.module.config.text_config
        limit = sizes.max_position_embeddings
        longest = {"truncation": True, "max_length": min(PUBLISHED_TOKENS, limit)} if self.as_published else {}
        ids = self.processor.tokenizer(text, return_tensors="pt", **longest)["input_ids"]
        if ids.shape[1] > limit:
            raise ValueError(
                f"The judge reads {limit} tokens and this question has {ids.shape[1]}: {text[:80]} ... Shorten it."
            )
        if sizes.vocab_size == sizes.bos_token_id + 2:
            ids[:, 0] = sizes.bos_token_id + 1
        return ids.to(self.device)
