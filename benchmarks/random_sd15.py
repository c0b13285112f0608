"""A UNet of Stable Diffusion 1.5's full size with random weights: as slow as the real one, and nothing to download."""

from __future__ import annotations

import comfy.model_management
import torch
from comfy.model_patcher import ModelPatcher
from comfy.supported_models import SD15

UNET_CONFIG = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 320,
    "channel_mult": [1, 2, 4, 4],
    "num_res_blocks": [2, 2, 2, 2],
    "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
    "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
    "transformer_depth_middle": 1,
    "context_dim": 768,
    "use_spatial_transformer": True,
    "legacy": False,
}
CONTEXT_DIM = UNET_CONFIG["context_dim"]
LATENT = (4, 64, 64)
BLOCK = 1_000_003


def random_sd15(dtype: torch.dtype) -> ModelPatcher:
    """The model as a MODEL. Weights keep the scale of what passes through; one block of numbers, repeated, is quick."""
    config = SD15(UNET_CONFIG)
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
