"""Captioners from folders under models/captioners, from a well-known repository of the Hugging Face hub, and that of
the demo world."""

from __future__ import annotations

import functools
from pathlib import Path

from ...pretrained.folders import ModelFolders, architectures, changed
from ...pretrained.loading import read
from .captioner import Captioner

ARCHITECTURE = "BlipForConditionalGeneration"
REPOSITORY = "Salesforce/blip-image-captioning-large"
"""The captioner of CoMat's published run."""
DEMO_WORLD = "demo world"
DEMO_FOLDER = Path(__file__).parents[2] / "demo" / "captioner"
FOLDERS = ModelFolders(
    name="captioners",
    noun="captioner",
    accepts=lambda told: ARCHITECTURE in architectures(told),
    refusal=lambda told: (
        f"holds a model of the class {', '.join(architectures(told)) or 'unknown'}. A captioner is of the class "
        f"{ARCHITECTURE}; BLIP for questions or for retrieval cannot tell how likely a caption is."
    ),
)


def available() -> list[str]:
    """The captioners in the models folder, by their path below it, then the well-known repository, then that of the
    demo world."""
    return [*sorted(FOLDERS.names() - {REPOSITORY, DEMO_WORLD}), REPOSITORY, DEMO_WORLD]


def folder_of(name: str) -> Path | None:
    """The folder of the captioner of that name; None for the repository of the hub.

    Raises:
        ValueError: it is neither, or the folder holds something else.
    """
    if name == DEMO_WORLD:
        FOLDERS.check(DEMO_FOLDER)
        return DEMO_FOLDER
    folder = FOLDERS.find(name)
    if folder is None and name != REPOSITORY:
        raise ValueError(
            f'There is no captioner "{name}": neither a folder of that name in {FOLDERS.place}, nor {REPOSITORY} or '
            f"{DEMO_WORLD}."
        )
    return folder


def load(name: str, download: bool) -> Captioner:
    """The captioner of that name; the repository's files come from the hub only with ``download``.

    Raises:
        ValueError: its files are not on this computer, or transformers cannot read them.
    """
    folder = folder_of(name) or FOLDERS.snapshot(REPOSITORY, download, "1.9 GB")
    return _read(folder, changed(folder))


@functools.lru_cache(maxsize=1)
def _read(folder: Path, changed: int) -> Captioner:
    """The captioner in a folder; the last one stays in memory, until the time its files ``changed`` is another."""
    found = read(folder, "captioner", "BlipProcessor", ARCHITECTURE)
    images = found.processor.image_processor
    return Captioner(
        found.patcher, found.processor.tokenizer, tuple(images.image_mean), tuple(images.image_std), found.lacking
    )
