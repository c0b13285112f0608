"""Stage 5: one safetensors file in the layout of an SD1 checkpoint, in fp16, from the results of the other stages."""

import json
import logging
import os
import subprocess
from pathlib import Path

import torch
from safetensors.torch import save_file

from .architecture import TEXT_CONFIG, TEXT_PREFIX, TOKEN_IDS_KEY, TOKEN_ROWS_KEY, UNET_HEADS, UNET_PREFIX, VAE_PREFIX
from .computing import Computing
from .parallel import Ranks
from .progress import load
from .text import load_vocabulary

VERSION = "1"
SD1_LATENT_SCALE = 0.18215
"""ComfyUI multiplies the autoencoder's latents by this before the UNet; stored as `vae_scale` it cancels out."""


def training_commit() -> str:
    """The checkout's commit, marked if files differ from it; "unknown" outside a checkout."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    result = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    return result.stdout.strip() or "unknown"


def checkpoint_tensors(vae: dict, text: dict, unet: dict) -> dict[str, torch.Tensor]:
    """All tensors of the file under their checkpoint names."""
    tensors = {f"{UNET_PREFIX}{name}": value for name, value in unet.items()}
    tensors |= {f"{VAE_PREFIX}{name}": value for name, value in vae.items()}
    tensors[f"{VAE_PREFIX}vae_scale"] = torch.tensor(SD1_LATENT_SCALE)
    tensors |= {
        f"{TEXT_PREFIX}{name.removeprefix('text_model.')}": value
        for name, value in text.items()
        if name.startswith("text_model.")
    }
    tensors = {name: value.half().contiguous() for name, value in tensors.items()}
    tensors[TOKEN_ROWS_KEY] = text["token_rows.weight"].half()
    tensors[TOKEN_IDS_KEY] = torch.tensor(load_vocabulary().token_ids, dtype=torch.int32)
    return tensors


def checkpoint_parts(tensors: dict[str, torch.Tensor]) -> tuple[dict, dict, dict]:
    """The weights of such a file, in fp32: of the autoencoder as it is trained, the text encoder, and the UNet."""

    def part(prefix: str) -> dict[str, torch.Tensor]:
        return {name.removeprefix(prefix): value.float() for name, value in tensors.items() if name.startswith(prefix)}

    text = {f"text_model.{name}": value for name, value in part(TEXT_PREFIX).items()}
    text["token_rows.weight"] = tensors[TOKEN_ROWS_KEY].float()
    return part(VAE_PREFIX) | {"vae_scale": torch.tensor(1.0)}, text, part(UNET_PREFIX)


def train(ranks: Ranks, computing: Computing, folder: Path, budget: float) -> None:
    """Write `model.safetensors` into `folder`; an unfinished UNet is taken as it was last saved."""
    trained = folder / "unet.pt" if (folder / "unet.pt").exists() else folder / "unet.latest.pt"
    vae, average = (load(path) for path in (folder / "vae.pt", trained))

    def part(prefix: str) -> dict[str, torch.Tensor]:
        return {name.removeprefix(prefix): value for name, value in average.items() if name.startswith(prefix)}

    metadata = {
        "version": VERSION,
        "training_commit": training_commit(),
        "unet_num_heads": str(UNET_HEADS),
        "text_config": json.dumps(TEXT_CONFIG),
    }
    target = folder / "model.safetensors"
    save_file(checkpoint_tensors(vae, part("text."), part("unet.")), f"{target}.partial", metadata)
    os.replace(f"{target}.partial", target)
    logging.info("%s: %.1f MB", target.name, target.stat().st_size / 1e6)
