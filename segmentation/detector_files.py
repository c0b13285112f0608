"""Detectors from folders under models/grounding-dino, and from well-known repositories of the Hugging Face hub."""

from __future__ import annotations

import functools
from pathlib import Path

from ..pretrained.folders import ModelFolders, changed
from ..pretrained.loading import Pretrained, read

GROUNDING = ("grounding-dino", "mm-grounding-dino")
OWL = ("owlvit", "owlv2")
MODEL_TYPES = (*GROUNDING, *OWL)
REPOSITORIES = (
    "IDEA-Research/grounding-dino-tiny",
    "IDEA-Research/grounding-dino-base",
    "google/owlv2-base-patch16-ensemble",
)
FOLDERS = ModelFolders(
    name="grounding-dino",
    noun="detector",
    accepts=lambda told: told.get("model_type") in MODEL_TYPES,
    refusal=lambda told: (
        f"holds a model of the type {told.get('model_type') or 'unknown'}. Detectors are of the types: "
        f"{', '.join(MODEL_TYPES)}."
    ),
    hint=" A single .pth file of the original Grounding DINO cannot be read.",
)


class Detector(Pretrained):
    """A detector and its processor."""

    @property
    def grounding(self) -> bool:
        """Whether it reads all phrases as one text, as Grounding DINO does."""
        return self.module.config.model_type in GROUNDING


def available() -> list[str]:
    """The detectors in the models folder, by their path below it, then the well-known repositories."""
    found = FOLDERS.names()
    return sorted(found) + [each for each in REPOSITORIES if each not in found]


def folder_of(name: str) -> Path | None:
    """The folder of the detector of that name; None for a repository of the hub.

    Raises:
        ValueError: it is neither, or the folder holds something else.
    """
    folder = FOLDERS.find(name)
    if folder is None and name not in REPOSITORIES:
        raise ValueError(
            f'There is no detector "{name}": neither a folder of that name in {FOLDERS.place}, nor one of the '
            f"repositories {', '.join(REPOSITORIES)}."
        )
    return folder


def load(name: str, download: bool) -> Detector:
    """The detector of that name; a repository's files come from the hub only with ``download``.

    Raises:
        ValueError: its files are not on this computer, or transformers cannot read them.
    """
    folder = folder_of(name) or FOLDERS.snapshot(name, download)
    return _read(folder, changed(folder))


@functools.lru_cache(maxsize=1)
def _read(folder: Path, changed: int) -> Detector:
    """The detector in a folder; the last one stays in memory, until the time its files ``changed`` is another."""
    found = read(folder, "detector", "AutoProcessor", "AutoModelForZeroShotObjectDetection")
    return Detector(found.patcher, found.processor, found.lacking)
