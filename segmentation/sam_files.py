"""Segment Anything's checkpoints in models/sams: which there are, and of which family each is by its tensors."""

from __future__ import annotations

import json
import os
from pathlib import Path

import comfy.utils
import folder_paths
import torch

FOLDER = "sams"
folder_paths.add_model_folder_path(FOLDER, os.path.join(folder_paths.models_dir, FOLDER))

SUFFIXES = (".pth", ".pt", ".safetensors")
CONFIG = "config.json"

VIT, MOBILE, SAM2 = "segment-anything", "MobileSAM", "SAM 2"
SAM2_TYPES = ("sam2", "sam2_video")
"""Both configs lie beside the same weights; the video model's has its memory too, which pictures do not need."""

SIGNATURES = {
    VIT: ("mask_decoder.iou_token.weight", "image_encoder.blocks.0.attn.qkv.weight"),
    MOBILE: ("mask_decoder.iou_token.weight", "image_encoder.layers.1.blocks.0.attn.attention_biases"),
}
OTHERS = {
    "mask_decoder.hf_token.weight": "SAM-HQ, which is not supported",
    "sam_mask_decoder.iou_token.weight": (
        "SAM 2 in the form of its own program; take the form for transformers instead, a folder with config.json and "
        "model.safetensors"
    ),
    "vision_encoder.": "a model for transformers without its folder; put it there with its config.json",
    "model.diffusion_model.": "a diffusion model, which belongs into models/checkpoints",
}
WANTED = (
    "Put one there: sam_vit_b, sam_vit_l or sam_vit_h of segment-anything (.pth), mobile_sam.pt of MobileSAM, or a "
    "folder with SAM 2 for transformers (config.json, preprocessor_config.json, model.safetensors)."
)

Weights = dict[str, torch.Tensor]


def available() -> list[str]:
    """Checkpoint files and folders in transformers' layout, as paths below the folders of models/sams."""
    return sorted({name for folder in folder_paths.get_folder_paths(FOLDER) for name in _below(Path(folder))})


def _below(folder: Path) -> list[str]:
    found = []
    for path, subfolders, files in os.walk(folder, followlinks=True):
        here = Path(path).relative_to(folder)
        if CONFIG in files and path != str(folder):
            found.append(here.as_posix())
            subfolders.clear()
        else:
            found += [(here / file).as_posix() for file in files if file.lower().endswith(SUFFIXES)]
    return found


def path_of(name: str | None) -> Path:
    """Where the checkpoint of that name is.

    Raises:
        ValueError: there is none; the message says where to put one.
    """
    folders = [Path(folder) for folder in folder_paths.get_folder_paths(FOLDER)]
    if name in available():
        return next(folder / name for folder in folders if (folder / name).exists())
    what = f'There is no Segment Anything checkpoint "{name}"' if name else "There is no Segment Anything checkpoint"
    raise ValueError(f"{what} in {' or '.join(map(str, folders))}. {WANTED}")


def fingerprint(path: Path) -> tuple:
    """Changes when a checkpoint is written anew."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return tuple((str(file), status.st_mtime_ns, status.st_size) for file in files for status in [file.stat()])


def read_weights(path: Path) -> Weights:
    """The tensors of a checkpoint file; nothing in it is executed.

    Raises:
        ValueError: it cannot be read.
    """
    try:
        return comfy.utils.load_torch_file(str(path), safe_load=True)
    except Exception as error:  # a damaged or foreign file can make its reader raise anything
        why = str(error).strip().split("\n")[0]
        raise ValueError(
            f"{path} is damaged or no checkpoint with tensors alone ({type(error).__name__}: {why}). Download it "
            f"again. {WANTED}"
        ) from error


def family_of(weights: Weights, path: Path) -> str:
    """VIT or MOBILE, from the names of the tensors.

    Raises:
        ValueError: it is neither; the message says what it is or looks like.
    """
    names = [str(name) for name in weights] if isinstance(weights, dict) else []
    found = next((what for start, what in OTHERS.items() if any(name.startswith(start) for name in names)), None)
    family = next((each for each, needed in SIGNATURES.items() if set(needed) <= set(names)), None)
    if family and not found:
        return family
    listed = f"{', '.join(names[:3])}, ... ({len(names)} in all)" if names else "none"
    found = found or f"unknown; its tensors are: {listed}"
    raise ValueError(f"{path} is no checkpoint of Segment Anything that can be used here. It is {found}. {WANTED}")


def check_sam2(folder: Path) -> None:
    """Raise ValueError unless a folder in transformers' layout holds SAM 2."""
    try:
        kind = json.loads((folder / CONFIG).read_text("utf-8"))["model_type"]
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{folder / CONFIG} is not the config of a model for transformers. {WANTED}") from error
    if kind not in SAM2_TYPES:
        raise ValueError(f'{folder} holds a model of type "{kind}", not {" or ".join(SAM2_TYPES)}. {WANTED}')
