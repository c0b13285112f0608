"""FastComposer's checkpoints in models/fastcomposer: which there are, and what is in one by its tensors' names."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import comfy.utils
import folder_paths
import torch

FOLDER = "fastcomposer"
folder_paths.add_model_folder_path(FOLDER, os.path.join(folder_paths.models_dir, FOLDER))

SUFFIXES = (".bin", ".pt", ".pth", ".safetensors")
DEMO_NAME = "demo model"
DEMO = Path(__file__).resolve().parent.parent / "demo" / "subjects.safetensors"
HEADS_KEY = "image_encoder_heads"
"""In a safetensors file's metadata: the attention heads of the image encoder, where they have not 64 columns each."""

IMAGE_ENCODER, FUSION_HEAD, UNET = "image_encoder.", "postfuse_module.", "unet."
FROZEN = ("text_encoder.", "vae.")
"""Copies of Stable Diffusion 1.5's own, which training left as they were."""
BUFFER = "position_ids"
"""What older versions of transformers save with each encoder."""

WANTED = "FastComposer's is called pytorch_model.bin; it may be renamed."
LISTED = 4

Weights = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Checkpoint:
    """The parts of a checkpoint, each with names of its own. ``unused`` and ``unknown`` are names of other tensors:
    those that are known not to be needed, and those that are not known."""

    path: Path
    image_encoder: Weights
    fusion_head: Weights
    unet: Weights
    heads: int | None
    unused: tuple[str, ...]
    unknown: tuple[str, ...]


def available() -> list[str]:
    """Checkpoints as paths below the folders of models/fastcomposer, and the demo model's."""
    files = [name for name in folder_paths.get_filename_list(FOLDER) if name.lower().endswith(SUFFIXES)]
    return [*files, DEMO_NAME]


def path_of(name: str) -> Path:
    """Where the checkpoint of that name is.

    Raises:
        ValueError: there is none; the message says where to put one.
    """
    if name in available():
        return DEMO if name == DEMO_NAME else Path(folder_paths.get_full_path_or_raise(FOLDER, name))
    folders = " or ".join(folder_paths.get_folder_paths(FOLDER))
    raise ValueError(
        f'There is no subject adapter "{name}" in {folders}. Put a checkpoint of FastComposer there. {WANTED}'
    )


def fingerprint(path: Path) -> tuple:
    """Changes when a checkpoint is written anew."""
    status = path.stat()
    return str(path), status.st_mtime_ns, status.st_size


def read(path: Path) -> Checkpoint:
    """A checkpoint file; nothing in it is executed.

    Raises:
        ValueError: it cannot be read, or a part is missing.
    """
    try:
        weights, metadata = comfy.utils.load_torch_file(str(path), safe_load=True, return_metadata=True)
    except Exception as error:  # a damaged or foreign file can make its reader raise anything
        why = str(error).strip().split("\n")[0]
        raise ValueError(
            f"{path} is damaged or no checkpoint with tensors alone ({type(error).__name__}: {why}). Download it again."
        ) from error
    names = [str(name) for name in weights] if isinstance(weights, dict) else []
    found = {prefix: _part(weights, prefix) if names else {} for prefix in (IMAGE_ENCODER, FUSION_HEAD, UNET)}
    missing = " and ".join(prefix.rstrip(".") for prefix in (IMAGE_ENCODER, FUSION_HEAD) if not found[prefix])
    if missing:
        raise ValueError(
            f"{path} is no checkpoint of FastComposer: it has no {missing}. Its tensors are: {listed(names)}. {WANTED}"
        )
    parts = tuple(found)
    unused = tuple(name for name in names if name.startswith(FROZEN) or name.endswith(BUFFER))
    return Checkpoint(
        path,
        *found.values(),
        heads=_number(metadata, path),
        unused=unused,
        unknown=tuple(name for name in names if not name.startswith(parts) and name not in unused),
    )


def _part(weights: Weights, prefix: str) -> Weights:
    return {
        name[len(prefix) :]: value
        for name, value in weights.items()
        if name.startswith(prefix) and not name.endswith(BUFFER)
    }


def _number(metadata: dict[str, str] | None, path: Path) -> int | None:
    written = (metadata or {}).get(HEADS_KEY)
    if written is not None and not (written.isdecimal() and int(written)):
        raise ValueError(f'{path} says in its metadata that {HEADS_KEY} is "{written}", which is no number of heads.')
    return None if written is None else int(written)


def load_into(module: torch.nn.Module, weights: Weights, prefix: str, path: Path) -> tuple[str, ...]:
    """Give a module its weights; returns the names of those that it has no place for.

    Raises:
        ValueError: some are missing, or have another shape.
    """
    expected = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in weights.items()}
    missing = [f"{prefix}{name}" for name in expected if name not in found]
    shapes = [
        f"{prefix}{name} is {found[name]}, not {shape}"
        for name, shape in expected.items()
        if found.get(name, shape) != shape
    ]
    unknown = tuple(f"{prefix}{name}" for name in found if name not in expected)
    if missing or shapes:
        told = [("missing", missing), ("of another shape", shapes), ("unknown", unknown)]
        problems = "; ".join(f"{what}: {listed(names)}" for what, names in told if names)
        raise ValueError(f"The tensors of {path} do not make up an adapter. {problems}. Download it again.")
    module.load_state_dict({name: weights[name] for name in expected})
    return unknown


def listed(names: list[str] | tuple[str, ...]) -> str:
    """The first few of many names."""
    if len(names) <= LISTED:
        return ", ".join(names) or "none"
    return f"{', '.join(names[:LISTED])}, ... ({len(names)} in all)"
