"""What a training leaves on the disk: the finished LoRA in models/loras, and a checkpoint from which it goes on."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import comfy.utils
import folder_paths
import safetensors
import safetensors.torch
import torch

FOLDER = "semantic_binding_training"
"""Below ComfyUI's output folder."""
IDENTITY = "semantic_binding_training"
"""In a LoRA's metadata: what it was trained with, as JSON."""


def lora_path(name: str) -> Path:
    """Where a LoRA of that name goes: into the first of ComfyUI's folders for them.

    Raises:
        ValueError: it is empty or leads out of that folder.
    """
    root = Path(folder_paths.get_folder_paths("loras")[0])
    path = root / f"{name.strip().removesuffix('.safetensors')}.safetensors"
    inside = root.resolve() in path.resolve().parents
    if not inside or not path.stem or path.name.startswith("."):
        raise ValueError(
            f'"{name}" is no name for a LoRA in {root}. Give a name such as "my_lora" or "folder/my_lora".'
        )
    return path


def checkpoint_path(name: str) -> Path:
    """Where the checkpoint of the training of a LoRA lies."""
    below = lora_path(name).relative_to(folder_paths.get_folder_paths("loras")[0]).with_suffix("")
    return Path(folder_paths.get_output_directory()) / FOLDER / below / "checkpoint.pt"


def save_checkpoint(path: Path, content: Mapping[str, Any]) -> None:
    """Written beside and put in its place when it is whole, so that a crash leaves the last one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".part")
    torch.save(dict(content), beside)
    os.replace(beside, path)


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """The checkpoint, or None if there is none.

    Raises:
        ValueError: it cannot be read.
    """
    if not path.exists():
        return None
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(
            f"The checkpoint {path} cannot be read ({error}). Delete it to train from the beginning, or put a copy of "
            "it in its place."
        ) from error


def save_lora(path: Path, weights: Mapping[str, torch.Tensor], identity: Mapping[str, Any], about: Mapping[str, str]):
    """Write a finished LoRA; ``identity`` tells what it was trained with, ``about`` are kohya's fields."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".part")
    metadata = {**about, IDENTITY: json.dumps(identity, sort_keys=True)}
    safetensors.torch.save_file(dict(weights), beside, metadata=metadata)
    os.replace(beside, path)


def identity_of(path: Path) -> dict[str, Any] | None:
    """What the LoRA of a file was trained with; None if it is not one of ours."""
    try:
        with safetensors.safe_open(path, "pt") as file:
            told = (file.metadata() or {}).get(IDENTITY)
    except Exception:  # whatever else lies there under that name
        return None
    return None if told is None else json.loads(told)


def read_lora(path: Path) -> dict[str, torch.Tensor]:
    return comfy.utils.load_torch_file(str(path), safe_load=True)
