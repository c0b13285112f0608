"""UNets of full size with random weights: as slow as the real ones, and nothing to download. Their text comes from
another model's encoder, brought to their width."""

from __future__ import annotations

import comfy.model_management
import torch
from comfy.model_patcher import ModelPatcher
from comfy.supported_models import SD15, SDXL

COMMON = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 320,
    "use_spatial_transformer": True,
    "legacy": False,
}
SD15_BLOCKS = {
    "channel_mult": [1, 2, 4, 4],
    "num_res_blocks": [2, 2, 2, 2],
    "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
    "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
    "transformer_depth_middle": 1,
    "context_dim": 768,
}
SDXL_BLOCKS = {
    "channel_mult": [1, 2, 4],
    "num_res_blocks": [2, 2, 2],
    "transformer_depth": [0, 0, 2, 2, 10, 10],
    "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10],
    "transformer_depth_middle": 10,
    "context_dim": 2048,
    "num_head_channels": 64,
    "num_classes": "sequential",
    "adm_in_channels": 2816,
    "use_linear_in_transformer": True,
}
LAYOUTS = {"sd15": (SD15, SD15_BLOCKS), "sdxl": (SDXL, SDXL_BLOCKS)}
POOLED = 1280
BLOCK = 1_000_003


def random_unet(layout: str, dtype: torch.dtype) -> ModelPatcher:
    """The model as a MODEL. Weights keep the scale of what passes through; one block of numbers, repeated, is quick."""
    kind, blocks = LAYOUTS[layout]
    config = kind({**COMMON, **blocks})
    config.set_inference_dtype(dtype, None)
    model = config.get_model({}, device="cpu")
    block = torch.randn(BLOCK, generator=torch.Generator().manual_seed(0)).to(dtype)
    for name, parameter in model.diffusion_model.named_parameters():
        if parameter.dim() > 1:
            values = block.repeat(-(-parameter.numel() // BLOCK))[: parameter.numel()]
            parameter.copy_(values.view_as(parameter)).mul_(parameter[0].numel() ** -0.5)
        else:
            parameter.fill_(0.0 if name.endswith("bias") else 1.0)
    device = comfy.model_management.get_torch_device()
    return ModelPatcher(model, load_device=device, offload_device=comfy.model_management.unet_offload_device())


class RandomText:
    """The CLIP of another model, whose encoded rows are mixed at random into rows of a layout's width."""

    def __init__(self, clip, layout: str):
        self._clip, self._width = clip, LAYOUTS[layout][1]["context_dim"]

    def __getattr__(self, name: str):
        return getattr(self._clip, name)

    def encode_from_tokens_scheduled(self, tokens: dict) -> list:
        conditioning = self._clip.encode_from_tokens_scheduled(tokens)
        return [
            [_mixed(rows, self._width), {**options, "pooled_output": _mixed(rows[:, 0], POOLED)}]
            for rows, options in conditioning
        ]


def _mixed(rows: torch.Tensor, width: int) -> torch.Tensor:
    own = rows.shape[-1]
    return rows @ torch.randn(own, width, generator=torch.Generator().manual_seed(0)) / own**0.5
