"""Detectors from folders under models/grounding-dino, and from well-known repositories of the Hugging Face hub."""

from __future__ import annotations

import functools
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import comfy.model_management
import folder_paths
import torch
from comfy.model_patcher import ModelPatcher

FOLDER = "grounding-dino"
folder_paths.add_model_folder_path(FOLDER, os.path.join(folder_paths.models_dir, FOLDER))

GROUNDING = ("grounding-dino", "mm-grounding-dino")
OWL = ("owlvit", "owlv2")
MODEL_TYPES = (*GROUNDING, *OWL)
REPOSITORIES = (
    "IDEA-Research/grounding-dino-tiny",
    "IDEA-Research/grounding-dino-base",
    "google/owlv2-base-patch16-ensemble",
)
CONFIG = "config.json"
PATTERNS = ["*.json", "*.txt", "*.safetensors"]
"""The files of a repository that are needed; others hold the same weights in another form."""


class Held(torch.nn.Module):
    """A module of transformers for ComfyUI's memory management, which sets ``device``; theirs cannot be set."""

    def __init__(self, module: torch.nn.Module):
        super().__init__()
        self.module = module
        self.device = None


@dataclass(frozen=True)
class Detector:
    """A detector and its processor; ``lacking`` are weights that its files do not have, which are random."""

    patcher: ModelPatcher
    processor: Any
    lacking: tuple[str, ...] = ()

    @property
    def module(self) -> torch.nn.Module:
        return self.patcher.model.module

    @property
    def device(self) -> torch.device:
        return self.patcher.load_device

    @property
    def grounding(self) -> bool:
        """Whether it reads all phrases as one text, as Grounding DINO does."""
        return self.module.config.model_type in GROUNDING

    def to_device(self) -> None:
        """Have ComfyUI make room for it on its device and move it there."""
        comfy.model_management.load_models_gpu([self.patcher])


def available() -> list[str]:
    """The detectors in the models folder, by their path below it, then the well-known repositories."""
    found = {
        config.parent.relative_to(root).as_posix()
        for root in map(Path, folder_paths.get_folder_paths(FOLDER))
        for pattern in (f"*/{CONFIG}", f"*/*/{CONFIG}")
        for config in root.glob(pattern)
        if _model_type(config) in MODEL_TYPES
    }
    return sorted(found) + [each for each in REPOSITORIES if each not in found]


def folder_of(name: str) -> Path | None:
    """The folder of the detector of that name; None for a repository of the hub.

    Raises:
        ValueError: it is neither, or the folder holds something else.
    """
    for root in map(Path, folder_paths.get_folder_paths(FOLDER)):
        folder = root / name
        if folder.is_dir() and root.resolve() in folder.resolve().parents:
            _check(folder)
            return folder
    if name in REPOSITORIES:
        return None
    raise ValueError(
        f'There is no detector "{name}": neither a folder of that name in {place()}, nor one of the repositories '
        f"{', '.join(REPOSITORIES)}."
    )


def place() -> str:
    """The folders that detectors are looked for in, for people."""
    return " or ".join(folder_paths.get_folder_paths(FOLDER))


def _check(folder: Path) -> None:
    config = folder / CONFIG
    if not config.is_file():
        held = ", ".join(sorted(each.name for each in folder.iterdir())[:5]) or "nothing"
        raise ValueError(
            f"{folder} has no {CONFIG}, but {held}. A detector is a folder as transformers saves it: {CONFIG}, "
            "preprocessor_config.json, the tokenizer's files and model.safetensors. A single .pth file of the original "
            "Grounding DINO cannot be read."
        )
    found = _model_type(config)
    if found not in MODEL_TYPES:
        raise ValueError(
            f"{folder} holds a model of the type {found or 'unknown'}. Detectors are of the types: "
            f"{', '.join(MODEL_TYPES)}."
        )


def _model_type(config: Path) -> str | None:
    try:
        told = json.loads(config.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return told.get("model_type") if isinstance(told, dict) else None


def load(name: str, download: bool) -> Detector:
    """The detector of that name; a repository's files come from the hub only with ``download``.

    Raises:
        ValueError: its files are not on this computer, or transformers cannot read them.
    """
    folder = folder_of(name) or _snapshot(name, download)
    return _read(folder, max(file.stat().st_mtime_ns for file in folder.iterdir()))


def _snapshot(repository: str, download: bool) -> Path:
    """The folder of a repository in the hub's cache.

    transformers gets this folder and not the repository's name: given a name it asks the hub, even if it is told to use
    local files only.
    """
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repository, local_files_only=not download, allow_patterns=PATTERNS))
    except Exception as error:
        by_hand = f"put its files into a folder of their own in {place()}"
        if download:
            raise ValueError(f"{repository} could not be downloaded; {by_hand}. {error}") from error
        raise ValueError(
            f"{repository} is not in the Hugging Face cache of this computer. Switch download on to have it fetched, "
            f"or {by_hand}."
        ) from error


@functools.lru_cache(maxsize=1)
def _read(folder: Path, changed: int) -> Detector:
    """The detector in a folder; the last one stays in memory, until the time its files ``changed`` is another."""
    try:
        from transformers import AutoModelForZeroShotObjectDetection, AutoProcessor, __version__
    except (ImportError, RuntimeError) as error:
        raise ValueError(
            f"Detection needs the package transformers, which came with ComfyUI but cannot be used: {error}. Install "
            "it again: pip install --upgrade transformers"
        ) from error
    try:
        processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
        module, told = AutoModelForZeroShotObjectDetection.from_pretrained(
            folder, local_files_only=True, output_loading_info=True
        )
    except Exception as error:
        raise ValueError(
            f"transformers {__version__} could not load the detector in {folder}. Check that its files are complete (a "
            f"repository's are fetched with download on), or upgrade transformers. It says: {error}"
        ) from error
    patcher = ModelPatcher(
        Held(module.float().eval()),
        load_device=comfy.model_management.get_torch_device(),
        offload_device=comfy.model_management.unet_offload_device(),
    )
    return Detector(patcher, processor, tuple(sorted(told["missing_keys"])))
