"""Judges from folders under models/judges, from well-known repositories of the Hugging Face hub, and the others."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from ...pretrained.folders import CONFIG, ModelFolders, architectures, changed, told_by
from ...pretrained.loading import Pretrained, read
from . import shapes, text_encoder
from .blip import BlipJudge
from .clip import CaptionJudge
from .judging import Judge
from .vision_language import VisionLanguageJudge

BLIP = "BlipForQuestionAnswering"
CAPTIONS = ("CLIPModel", "SiglipModel")
REPOSITORIES = {
    "Salesforce/blip-vqa-capfilt-large": "1.5 GB",
    "Salesforce/blip-vqa-base": "1.5 GB",
    "Qwen/Qwen2.5-VL-3B-Instruct": "7.5 GB",
    "openai/clip-vit-large-patch14": "1.7 GB",
    "google/siglip2-base-patch16-224": "1.5 GB",
}
WITHOUT_FILES = (shapes.NAME, text_encoder.NAME)


def kind_of(told: dict) -> tuple[str, type[Pretrained]] | None:
    """The class of transformers that a config.json is of, and that of the judge; None for something else."""
    named = architectures(told)
    if BLIP in named:
        return BLIP, BlipJudge
    if found := next((each for each in CAPTIONS if each in named), None):
        return found, CaptionJudge
    speaking = any(each.endswith("ForConditionalGeneration") and not each.startswith("Blip") for each in named)
    return ("AutoModelForImageTextToText", VisionLanguageJudge) if speaking and "vision_config" in told else None


FOLDERS = ModelFolders(
    name="judges",
    noun="judge",
    accepts=lambda told: kind_of(told) is not None,
    refusal=lambda told: (
        f"holds a model of the class {', '.join(architectures(told)) or 'unknown'}. A judge is {BLIP}, "
        f"{' or '.join(CAPTIONS)}, or a vision language model such as Qwen2_5_VLForConditionalGeneration."
    ),
)


def available() -> list[str]:
    """The judges in the models folder, by their path below it, the well-known repositories, and those without files."""
    found = FOLDERS.names()
    return [*sorted(found - {*WITHOUT_FILES}), *(each for each in REPOSITORIES if each not in found), *WITHOUT_FILES]


def folder_of(name: str) -> Path | None:
    """The folder of the judge of that name; None for a repository of the hub and for a judge without files.

    Raises:
        ValueError: it is none of these, or the folder holds something else.
    """
    if name in WITHOUT_FILES:
        return None
    folder = FOLDERS.find(name)
    if folder is None and name not in REPOSITORIES:
        raise ValueError(
            f'There is no judge "{name}": neither a folder of that name in {FOLDERS.place}, nor one of '
            f"{', '.join((*REPOSITORIES, *WITHOUT_FILES))}."
        )
    return folder


def load(name: str, download: bool, clip: Any = None) -> Judge:
    """The judge of that name; a repository's files come from the hub only with ``download``.

    Raises:
        ValueError: its files are not on this computer, or transformers cannot read them; or there is a CLIP and another
            judge, or no CLIP where it is to be the judge.
    """
    if (clip is not None) != (name == text_encoder.NAME):
        raise ValueError(
            f'To have the connected CLIP judge, choose the judge "{text_encoder.NAME}"; now it is "{name}".'
            if clip is not None
            else f'The judge "{name}" needs a CLIP: connect a text encoder that is a vision language model.'
        )
    if name == text_encoder.NAME:
        text_encoder.check(clip)
        return text_encoder.TextEncoderJudge(clip)
    if name == shapes.NAME:
        return shapes.ShapesJudge()
    folder = folder_of(name)
    if folder is None:
        folder = FOLDERS.snapshot(name, download, REPOSITORIES[name])
        FOLDERS.check(folder)
    return _read(folder, changed(folder), name)


@functools.lru_cache(maxsize=1)
def _read(folder: Path, changed: int, name: str) -> Judge:
    """The judge in a folder; the last one stays in memory, until the time its files ``changed`` is another."""
    model_class, kind = kind_of(told_by(folder / CONFIG))
    found = read(folder, "judge", "AutoProcessor", model_class, in_float32=kind is not VisionLanguageJudge)
    if not hasattr(found.processor, "image_processor") or not hasattr(found.processor, "tokenizer"):
        raise ValueError(
            f"{folder} has no complete processor: preprocessor_config.json and the tokenizer's files have to lie "
            "beside the model."
        )
    return kind(found.patcher, found.processor, found.lacking, name=name)


def described(judge: Judge) -> str:
    """What a judge is, in a line."""
    if isinstance(judge, shapes.ShapesJudge):
        return "answers questions about the shapes of the demo model"
    if isinstance(judge, text_encoder.TextEncoderJudge):
        return f"{text_encoder.class_of(judge.clip)}, answers questions"
    does = "compares captions" if isinstance(judge, CaptionJudge) else "answers questions"
    return f"{type(judge.module).__name__}, {judge.patcher.model_size() / 1e6:,.0f} MB, {does}"
