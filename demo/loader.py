"""The demo model as ComfyUI's own MODEL, CLIP and VAE, built directly: nothing joins ComfyUI's list of models."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import ClassVar

import comfy.model_management
import comfy.ops
import comfy.sd
import comfy.utils
import torch
from comfy import latent_formats, supported_models
from comfy.clip_model import CLIPTextModel
from comfy.model_patcher import CoreModelPatcher, ModelPatcher
from comfy.sd1_clip import SD1ClipModel, SD1Tokenizer, SDClipModel, SDTokenizer
from comfy.supported_models_base import ClipTarget
from comfy.taesd.taesd import TAESD
from safetensors import SafetensorError

from .architecture import (
    LATENT_CHANNELS,
    TEXT_CONFIG,
    TEXT_PREFIX,
    TOKEN_IDS_KEY,
    TOKEN_ROWS_KEY,
    UNET_CONFIG,
    UNET_HEADS,
    UNET_PREFIX,
    VAE_PREFIX,
)
from .preview import PREVIEW_BIAS, PREVIEW_FACTORS

WEIGHTS = Path(__file__).with_name("model.safetensors")
_TOKEN_TABLE = "embeddings.token_embedding.weight"
_LFS_POINTER = b"version https://git-lfs"

Weights = dict[str, torch.Tensor]


class DemoLatent(latent_formats.SD15):
    """Stable Diffusion 1's latents (and scale), with the demo autoencoder's own colours for previews."""

    def __init__(self):
        super().__init__()
        self.latent_rgb_factors = PREVIEW_FACTORS
        self.latent_rgb_factors_bias = PREVIEW_BIAS
        self.taesd_decoder_name = None


class DemoConfig(supported_models.SD15):
    """Stable Diffusion 1 in the demo model's sizes: key prefixes, saving and LoRA names are those of SD 1."""

    unet_extra_config: ClassVar = {"num_heads": UNET_HEADS, "num_head_channels": -1}
    latent_format = DemoLatent


def read_weights(path: str | Path = WEIGHTS) -> Weights:
    """The tensors of the demo model's file.

    Raises:
        ValueError: the file is missing, is a Git LFS pointer, is no safetensors file, or is not of this demo model.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"The demo model's weights are missing: there is no file {path}. Install the node pack again.")
    with path.open("rb") as file:
        if file.read(len(_LFS_POINTER)) == _LFS_POINTER:
            raise ValueError(
                f"{path} is a Git LFS pointer, not the demo model's weights. Run `git lfs pull` in its folder."
            )
    try:
        weights, metadata = comfy.utils.load_torch_file(str(path), safe_load=True, return_metadata=True)
    except (SafetensorError, ValueError) as error:
        raise ValueError(f"{path} is damaged or no safetensors file. Install the node pack again.") from error
    if TOKEN_ROWS_KEY not in weights or TOKEN_IDS_KEY not in weights:
        raise ValueError(f"{path} is not the demo model: it has no {TOKEN_ROWS_KEY}. Install the node pack again.")
    trained = metadata or {}
    if trained.get("unet_num_heads") != str(UNET_HEADS) or json.loads(trained.get("text_config", "{}")) != TEXT_CONFIG:
        raise ValueError(f"{path} was trained with other head counts or sizes than this version of the node pack has.")
    return weights


def _part(weights: Weights, prefix: str) -> Weights:
    return {key[len(prefix) :]: value for key, value in weights.items() if key.startswith(prefix)}


def _check_fits(module: torch.nn.Module, weights: Weights, part: str) -> None:
    """Raise ValueError unless the weights are the module's, name by name and shape by shape."""
    expected = {key: value.shape for key, value in module.state_dict().items()}
    found = {key: value.shape for key, value in weights.items()}
    wrong = sorted(key for key in expected.keys() | found.keys() if expected.get(key) != found.get(key))
    if wrong:
        key = wrong[0]
        raise ValueError(
            f"The demo model's weights do not fit its {part}; of {len(wrong)} tensors that differ the first is {key} "
            f"(expected {expected.get(key)}, found {found.get(key)}). Install the node pack again."
        )


def _token_table(weights: Weights) -> torch.Tensor:
    """All rows of CLIP's vocabulary (49408, 128): the trained ones, and their mean for every other word."""
    rows = weights[TOKEN_ROWS_KEY]
    table = rows.float().mean(0).to(rows.dtype).repeat(TEXT_CONFIG["vocab_size"], 1)
    table[weights[TOKEN_IDS_KEY].long()] = rows
    return table


def load_model(path: str | Path = WEIGHTS, disable_dynamic: bool = False) -> ModelPatcher:
    """The UNet as a MODEL. Core calls this again where it needs other copies of the weights, as in LoRA training."""
    weights = _part(read_weights(path), UNET_PREFIX)
    config = DemoConfig({key: list(value) if isinstance(value, list) else value for key, value in UNET_CONFIG.items()})
    device = comfy.model_management.get_torch_device()
    supported = list(config.supported_inference_dtypes)
    dtype = comfy.model_management.unet_dtype(
        model_params=sum(value.numel() for value in weights.values()),
        supported_dtypes=supported,
        weight_dtype=comfy.utils.weight_dtype(weights),
    )
    config.set_inference_dtype(dtype, comfy.model_management.unet_manual_cast(dtype, device, supported), device=device)
    offload_device = comfy.model_management.unet_offload_device()
    model = config.get_model({}, device=offload_device)
    _check_fits(model.diffusion_model, weights, "UNet")
    patcher_class = ModelPatcher if disable_dynamic else CoreModelPatcher
    patcher = patcher_class(model, load_device=device, offload_device=offload_device)
    model.load_model_weights(weights, assign=patcher.is_dynamic())
    patcher.cached_patcher_init = (load_model, (path,))
    return patcher


def load_clip(
    path: str | Path = WEIGHTS, embedding_directory: list[str] | None = None, disable_dynamic: bool = False
) -> comfy.sd.CLIP:
    """The text encoder as a CLIP, whose tokenizer is Stable Diffusion 1's."""
    weights = read_weights(path)
    width = TEXT_CONFIG["hidden_size"]
    state = {f"text_model.{key}": value for key, value in _part(weights, TEXT_PREFIX).items()}
    state[f"text_model.{_TOKEN_TABLE}"] = _token_table(weights)
    state["text_projection.weight"] = torch.eye(width)
    target = ClipTarget(
        functools.partial(SD1Tokenizer, tokenizer=functools.partial(SDTokenizer, embedding_size=width)), SD1ClipModel
    )
    target.params = {
        "clip_model": SDClipModel,
        "textmodel_json_config": dict(TEXT_CONFIG),
        "return_projected_pooled": False,
    }
    _check_fits(CLIPTextModel(TEXT_CONFIG, torch.float16, "meta", comfy.ops.disable_weight_init), state, "text encoder")
    clip = comfy.sd.CLIP(
        target,
        embedding_directory=embedding_directory,
        parameters=sum(value.numel() for value in state.values()),
        state_dict={f"clip_l.transformer.{key}": value for key, value in state.items()},
        disable_dynamic=disable_dynamic,
    )
    clip.patcher.cached_patcher_init = (_load_clip_patcher, (path, embedding_directory))
    return clip


def _load_clip_patcher(path, embedding_directory, disable_dynamic: bool = False) -> ModelPatcher:
    return load_clip(path, embedding_directory, disable_dynamic).patcher


def load_vae(path: str | Path = WEIGHTS) -> comfy.sd.VAE:
    """The autoencoder as a VAE."""
    weights = _part(read_weights(path), VAE_PREFIX)
    _check_fits(TAESD(latent_channels=LATENT_CHANNELS), weights, "autoencoder")
    vae = comfy.sd.VAE(sd=weights)
    vae.patcher.cached_patcher_init = (_load_vae_patcher, (path,))
    return vae


def _load_vae_patcher(path, disable_dynamic: bool = False) -> ModelPatcher:
    return load_vae(path).patcher
