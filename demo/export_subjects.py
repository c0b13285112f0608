"""Stage 4 of the subject adapter: one safetensors file in the layout of a FastComposer checkpoint, in fp16."""

import os
from pathlib import Path

import torch
from safetensors.torch import save_file

from ..subjects.checkpoint import HEADS_KEY
from .architecture import UNET_CONFIG
from .computing import Computing
from .export import training_commit
from .parallel import Ranks
from .progress import load
from .subject_networks import VISION_HEADS

VERSION = "1"
UNET = "unet."


def diffusers_names() -> dict[str, str]:
    """The name that diffusers has for each of ComfyUI's names of the UNet's weights."""
    import comfy.utils

    config = {key: list(value) if isinstance(value, list) else value for key, value in UNET_CONFIG.items()}
    return {comfy_name: name for name, comfy_name in comfy.utils.unet_to_diffusers(config).items()}


def checkpoint_tensors(average: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """All tensors of the file under their checkpoint names."""
    names = diffusers_names()
    return {
        (f"{UNET}{names[name.removeprefix(UNET)]}" if name.startswith(UNET) else name): value.half().contiguous()
        for name, value in average.items()
    }


def train(ranks: Ranks, computing: Computing, folder: Path, budget: float) -> None:
    """Write `subjects.safetensors` into `folder`; an unfinished adapter is taken as it was last saved."""
    trained = folder / "adapter.pt" if (folder / "adapter.pt").exists() else folder / "adapter.latest.pt"
    average = load(trained)
    metadata = {"version": VERSION, "training_commit": training_commit(), HEADS_KEY: str(VISION_HEADS)}
    target = folder / "subjects.safetensors"
    save_file(checkpoint_tensors(average), f"{target}.partial", metadata)
    os.replace(f"{target}.partial", target)
