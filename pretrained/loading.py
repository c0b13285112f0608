"""A model of transformers with its processor, in a ModelPatcher of ComfyUI."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import comfy.model_management
import numpy as np
import torch
from comfy.model_patcher import ModelPatcher


class Held(torch.nn.Module):
    """A module of transformers for ComfyUI's memory management, which sets ``device``; theirs cannot be set."""

    def __init__(self, module: torch.nn.Module):
        super().__init__()
        self.module = module
        self.device = None


@dataclass(frozen=True)
class Pretrained:
    """A model and its processor; ``lacking`` are weights that its files do not have, which are random."""

    patcher: ModelPatcher
    processor: Any
    lacking: tuple[str, ...] = ()

    @property
    def module(self) -> torch.nn.Module:
        return self.patcher.model.module

    @property
    def device(self) -> torch.device:
        return self.patcher.load_device

    def to_device(self) -> None:
        """Have ComfyUI make room for it on its device and move it there."""
        comfy.model_management.load_models_gpu([self.patcher])


def read(folder: Path, noun: str, processor_class: str, model_class: str, in_float32: bool = True) -> Pretrained:
    """The model in a folder, by the names of its classes in transformers.

    Args:
        noun: what it is, for people.
        in_float32: its weights are; else they are as in its files.

    Raises:
        ValueError: transformers cannot be used, or cannot read the files.
    """
    article = "An" if noun[0] in "aeiou" else "A"
    try:
        import transformers

        processors, models = getattr(transformers, processor_class), getattr(transformers, model_class)
    except (ImportError, RuntimeError, AttributeError) as error:
        raise ValueError(
            f"{article} {noun} needs the package transformers, which came with ComfyUI but cannot be used: {error}. "
            "Install it again: pip install --upgrade transformers"
        ) from error
    try:
        processor = processors.from_pretrained(folder, local_files_only=True)
        module, told = models.from_pretrained(
            folder, local_files_only=True, output_loading_info=True, torch_dtype="auto"
        )
    except Exception as error:
        raise ValueError(
            f"transformers {transformers.__version__} could not load the {noun} in {folder}. Check that its files are "
            f"complete (a repository's are fetched with download on), or upgrade transformers. It says: {error}"
        ) from error
    module = module.float() if in_float32 else module
    patcher = ModelPatcher(
        Held(module.eval().requires_grad_(False)),
        load_device=comfy.model_management.get_torch_device(),
        offload_device=comfy.model_management.unet_offload_device(),
    )
    return Pretrained(patcher, processor, tuple(sorted(told["missing_keys"])))


def as_bytes(picture: torch.Tensor) -> np.ndarray:
    """A picture ``(H, W, 3)`` in 0..1 as processors of transformers take it."""
    return (picture.cpu() * 255).round().clamp(0, 255).to(torch.uint8).numpy()
