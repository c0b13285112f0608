"""A text encoder of ComfyUI's that is a vision language model itself, as judge: what is on the disk for an image model
already can tell of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import comfy.model_management
import torch

from . import output_layer
from .judging import PROBABILITY
from .questions import Question
from .vision_language import REQUEST
from .yes_no import answer_tokens, share_of_yes

NAME = "text encoder"
CHAT = "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>{}<|im_end|>\n<|im_start|>assistant\n"
"""How Qwen's models are asked about a picture. Templates of ComfyUI's tokenizers for editing would ask for something
else."""


@dataclass(frozen=True)
class TextEncoderJudge:
    clip: Any
    name: str = NAME
    measures: ClassVar[str] = PROBABILITY

    def answer(self, picture: torch.Tensor, questions: Sequence[Question]) -> list[float]:
        """For a picture ``(H, W, 3)`` in 0..1.

        Raises:
            ValueError: the text encoder takes no pictures, or has no yes or no.
        """
        yes, no = self._answers()
        logits_of = self._first_logits
        if _lacks_output_layer(_network(self.clip)):
            layer = output_layer.rows(output_layer.file_of(self.clip), [*yes, *no])
            yes, no = range(len(yes)), range(len(yes), len(layer))

            def logits_of(tokens: dict[str, Any]) -> torch.Tensor:
                return layer @ self._last_state(tokens)

        found = []
        for question in questions:
            comfy.model_management.throw_exception_if_processing_interrupted()
            found.append(share_of_yes(logits_of(self._tokens(picture, question.text)), yes, no).item())
        return found

    def _tokens(self, picture: torch.Tensor, question: str) -> dict[str, Any]:
        text = f"{question} {REQUEST}"
        chat = "<|im_start|>" in getattr(self.clip.tokenizer, "llama_template", "")
        # ComfyUI's tokenizers take a picture by one of two names.
        asked = {"image": picture[None], "images": [picture[None]], "skip_template": False}
        tokens = self.clip.tokenize(CHAT.format(text) if chat else text, min_length=1, thinking=False, **asked)
        (rows,) = tokens.values()
        if not any(isinstance(each[0], dict) for row in rows for each in row):
            raise _no_judge(self.clip, "its tokenizer puts no picture among the tokens")
        return tokens

    def _first_logits(self, tokens: dict[str, Any]) -> torch.Tensor:
        """``(V,)``: of the first token of the answer, where ComfyUI's own generation chooses one of them."""
        network, seen = _network(self.clip), []

        def first(logits: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
            seen.append(logits[0].float().cpu())
            return logits.argmax(-1, keepdim=True)

        network.sample_token = first
        try:
            self.clip.generate(tokens, do_sample=False, max_length=1)
        finally:
            del network.sample_token
        return seen[0]

    def _last_state(self, tokens: dict[str, Any]) -> torch.Tensor:
        """``(C,)``: the hidden state of the last token, where ComfyUI encodes these tokens for an image model."""
        model = self.clip.cond_stage_model
        model.reset_clip_options()
        device = self.clip.load_model(tokens).load_device
        model.set_clip_options({"execution_device": device})
        (rows,) = tokens.values()
        return _encoder(model).encode_token_weights(rows)[0][0, -1].float().cpu()

    def _answers(self) -> tuple[list[int], list[int]]:
        tokenizer = getattr(self.clip.tokenizer, self.clip.tokenizer.clip).tokenizer
        starting = len(tokenizer("")["input_ids"])
        return answer_tokens(
            lambda text: tokenizer(text)["input_ids"][starting:], getattr(tokenizer, "unk_token_id", None)
        )


def check(clip: Any) -> None:
    """Raise ValueError if a CLIP cannot be asked about pictures; the message says what it is."""
    network = _network(clip)
    if not hasattr(network, "sample_token") or not hasattr(network, "preprocess_embed"):
        raise _no_judge(clip, "it reads no pictures or writes no text")
    if not network.model.config.final_norm:
        raise _no_judge(clip, "ComfyUI loads it without its last layers")
    if _lacks_output_layer(network):
        try:
            output_layer.file_of(clip)
        except ValueError as error:
            raise _no_judge(clip, str(error)) from error


def _encoder(model: Any) -> Any:
    """Of a model that has several encoders, the one that its name is of; None if it names none."""
    return getattr(model, getattr(model, "clip", ""), None)


def _network(clip: Any) -> Any:
    return getattr(_encoder(clip.cond_stage_model), "transformer", None)


def _lacks_output_layer(network: Any) -> bool:
    """Qwen2.5-VL, whose words are not tied to an output layer that ComfyUI does not load."""
    return type(network).__name__ == "Qwen25_7BVLI"


def class_of(clip: Any) -> str:
    """The name that ComfyUI's code gives to what a CLIP is."""
    network = _network(clip)
    return type(clip.cond_stage_model if network is None else network).__name__.rstrip("_")


def _no_judge(clip: Any, problem: str) -> ValueError:
    return ValueError(
        f"The connected CLIP ({class_of(clip)}) cannot judge pictures: {problem}. Connect a text encoder that is a "
        "vision language model, such as Qwen3-VL, or choose another judge."
    )
