"""Captioners from folders under models/captioners, from a well-known repository of the Hugging Face hub, and that of
the demo world."""

from __future__ import annotations

import functools
import json
import os
from pathlib import Path

import comfy.model_management
import folder_paths
from comfy.model_patcher import ModelPatcher

from ...segmentation.detector_files import CONFIG, PATTERNS, Held
from .captioner import Captioner

FOLDER = "captioners"
folder_paths.add_model_folder_path(FOLDER, os.path.join(folder_paths.models_dir, FOLDER))

ARCHITECTURE = "BlipForConditionalGeneration"
REPOSITORY = "Salesforce/blip-image-captioning-large"
"""The captioner of CoMat's published run."""
DEMO_WORLD = "demo world"
DEMO_FOLDER = Path(__file__).parents[2] / "demo" / "captioner"


def available() -> list[str]:
    """The captioners in the models folder, by their path below it, then the well-known repository, then that of the
    demo world."""
    found = {
        config.parent.relative_to(root).as_posix()
        for root in map(Path, folder_paths.get_folder_paths(FOLDER))
        for pattern in (f"*/{CONFIG}", f"*/*/{CONFIG}")
        for config in root.glob(pattern)
        if ARCHITECTURE in _architectures(config)
    }
    return [*sorted(found - {REPOSITORY, DEMO_WORLD}), REPOSITORY, DEMO_WORLD]


def folder_of(name: str) -> Path | None:
    """The folder of the captioner of that name; None for the repository of the hub.

    Raises:
        ValueError: it is neither, or the folder holds something else.
    """
    if name == DEMO_WORLD:
        _check(DEMO_FOLDER)
        return DEMO_FOLDER
    for root in map(Path, folder_paths.get_folder_paths(FOLDER)):
        folder = root / name
        if folder.is_dir() and root.resolve() in folder.resolve().parents:
            _check(folder)
            return folder
    if name == REPOSITORY:
        return None
    raise ValueError(
        f'There is no captioner "{name}": neither a folder of that name in {place()}, nor {REPOSITORY} or {DEMO_WORLD}.'
    )


def place() -> str:
    """The folders that captioners are looked for in, for people."""
    return " or ".join(folder_paths.get_folder_paths(FOLDER))


def _check(folder: Path) -> None:
    config = folder / CONFIG
    if not config.is_file():
        held = ", ".join(sorted(each.name for each in folder.glob("*"))[:5]) or "nothing"
        raise ValueError(
            f"{folder} has no {CONFIG}, but {held}. A captioner is a folder as transformers saves it: {CONFIG}, "
            "preprocessor_config.json, the tokenizer's files and model.safetensors."
        )
    found = _architectures(config)
    if ARCHITECTURE not in found:
        raise ValueError(
            f"{folder} holds a model of the class {', '.join(found) or 'unknown'}. A captioner is of the class "
            f"{ARCHITECTURE}; BLIP for questions or for retrieval cannot tell how likely a caption is."
        )


def _architectures(config: Path) -> list[str]:
    try:
        told = json.loads(config.read_text("utf-8"))
    except (OSError, ValueError):
        return []
    return (told.get("architectures") or []) if isinstance(told, dict) else []


def load(name: str, download: bool) -> Captioner:
    """The captioner of that name; the repository's files come from the hub only with ``download``.

    Raises:
        ValueError: its files are not on this computer, or transformers cannot read them.
    """
    folder = folder_of(name) or _snapshot(download)
    return _read(folder, changed(folder))


def changed(folder: Path) -> int:
    """When a file of a captioner was last written."""
    return max(file.stat().st_mtime_ns for file in folder.iterdir())


def _snapshot(download: bool) -> Path:
    """The folder of the repository in the hub's cache."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(REPOSITORY, local_files_only=not download, allow_patterns=PATTERNS))
    except Exception as error:
        by_hand = f"put its files into a folder of their own in {place()}"
        if download:
            raise ValueError(f"{REPOSITORY} could not be downloaded; {by_hand}. {error}") from error
        raise ValueError(
            f"{REPOSITORY} is not in the Hugging Face cache of this computer. Switch download on to have it fetched "
            f"(1.9 GB), or {by_hand}."
        ) from error


@functools.lru_cache(maxsize=1)
def _read(folder: Path, changed: int) -> Captioner:
    """The captioner in a folder; the last one stays in memory, until the time its files ``changed`` is another."""
    try:
        from transformers import BlipForConditionalGeneration, BlipProcessor, __version__
    except (ImportError, RuntimeError) as error:
        raise ValueError(
            f"A captioner needs the package transformers, which came with ComfyUI but cannot be used: {error}. Install "
            "it again: pip install --upgrade transformers"
        ) from error
    try:
        processor = BlipProcessor.from_pretrained(folder, local_files_only=True)
        module, told = BlipForConditionalGeneration.from_pretrained(
            folder, local_files_only=True, output_loading_info=True
        )
    except Exception as error:
        raise ValueError(
            f"transformers {__version__} could not load the captioner in {folder}. Check that its files are complete "
            f"(the repository's are fetched with download on), or upgrade transformers. It says: {error}"
        ) from error
    patcher = ModelPatcher(
        Held(module.float().eval().requires_grad_(False)),
        load_device=comfy.model_management.get_torch_device(),
        offload_device=comfy.model_management.unet_offload_device(),
    )
    images = processor.image_processor
    lacking = tuple(sorted(told["missing_keys"]))
    return Captioner(patcher, processor.tokenizer, tuple(images.image_mean), tuple(images.image_std), lacking)
