"""The image encoder: ComfyUI's own CLIP vision network, in the sizes of a checkpoint's tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import comfy.ops
import torch
from comfy.clip_model import CLIPVisionModelProjection

HEAD_WIDTH = 64
"""Columns of an attention head, as in all of CLIP's released sizes; tensors do not tell."""


def config_of(weights: Mapping[str, torch.Tensor], heads: int | None) -> dict[str, Any]:
    """The sizes of an image encoder in transformers' names.

    Raises:
        KeyError: a tensor that says a size is missing.
        ValueError: the sizes do not go together.
    """
    embeddings, layers = "vision_model.embeddings.", "vision_model.encoder.layers."
    width, channels, patch, _ = weights[f"{embeddings}patch_embedding.weight"].shape
    across = math.isqrt(len(weights[f"{embeddings}position_embedding.weight"]) - 1)
    heads = heads or max(1, width // HEAD_WIDTH)
    if width % heads:
        raise ValueError(f"Its image encoder has {width} columns, which cannot be shared by {heads} attention heads.")
    return {
        "hidden_size": width,
        "image_size": patch * across,
        "intermediate_size": len(weights[f"{layers}0.mlp.fc1.bias"]),
        "num_attention_heads": heads,
        "num_channels": channels,
        "num_hidden_layers": 1 + max(int(name[len(layers) :].split(".")[0]) for name in weights if layers in name),
        "patch_size": patch,
        "projection_dim": len(weights["visual_projection.weight"]),
        "hidden_act": "quick_gelu",
        "model_type": "clip_vision_model",
    }


class ImageEncoder(CLIPVisionModelProjection):
    """CLIP's, as FastComposer uses it: the projected class token, not normalised.

    ``image_size`` is the side of the square that it sees, in pixels.
    """

    def __init__(self, config: dict[str, Any], dtype: torch.dtype, device: torch.device):
        super().__init__(config, dtype, device, comfy.ops.manual_cast)
        self.image_size = config["image_size"]

    def embedded(self, pixels: torch.Tensor) -> torch.Tensor:
        """``(N, 3, S, S)``, normalised, to ``(N, D)``."""
        return self(pixel_values=pixels)[2]
