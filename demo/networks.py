"""ComfyUI's own networks in the demo model's sizes, initialised for training (ComfyUI's layers leave that out)."""

import sys
from pathlib import Path

import torch
from torch import nn

from .architecture import LATENT_CHANNELS, UNET_CONFIG


def find_comfyui(folder: Path) -> None:
    """Make ComfyUI's `comfy` importable, from the folder of a ComfyUI installation, without its own use of a GPU."""
    if "comfy" in sys.modules:
        return
    sys.path.insert(0, str(folder))
    sys.argv = [sys.argv[0], "--cpu"]
    import comfy.options

    comfy.options.enable_args_parsing()


@torch.no_grad()
def build_autoencoder() -> nn.Module:
    """A fresh TAESD, He-initialised with damped residual branches: torch's own makes latents too faint to start."""
    from comfy.taesd.taesd import TAESD, Block

    autoencoder = TAESD(latent_channels=LATENT_CHANNELS)
    for layer in autoencoder.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    for block in autoencoder.modules():
        if isinstance(block, Block):
            block.conv[-1].weight.mul_(0.2)
    autoencoder.taesd_decoder[-1].weight.mul_(0.2)
    autoencoder.taesd_decoder[-1].bias.fill_(0.5)
    autoencoder.vae_scale.requires_grad_(False)
    autoencoder.vae_shift.requires_grad_(False)
    return autoencoder


@torch.no_grad()
def build_unet() -> nn.Module:
    """A fresh SD1 UNet: Lecun-normal layers, with the last layer of each residual branch and of the output at zero."""
    import comfy.ops
    from comfy.ldm.modules.attention import CrossAttention, FeedForward, SpatialTransformer
    from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock, UNetModel

    config = {key: list(value) if isinstance(value, list) else value for key, value in UNET_CONFIG.items()}
    unet = UNetModel(**config, dtype=torch.float32, operations=comfy.ops.disable_weight_init)
    for layer in unet.modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            fan_in = layer.weight[0].numel()
            nn.init.normal_(layer.weight, std=fan_in**-0.5)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, (nn.GroupNorm, nn.LayerNorm)):
            nn.init.ones_(layer.weight)
            nn.init.zeros_(layer.bias)
    for block in unet.modules():
        if isinstance(block, ResBlock):
            block.out_layers[-1].weight.mul_(0.1)
        elif isinstance(block, CrossAttention):
            block.to_out[0].weight.mul_(0.3)
        elif isinstance(block, FeedForward):
            block.net[-1].weight.mul_(0.3)
        elif isinstance(block, SpatialTransformer):
            block.proj_out.weight.mul_(0.3)
    unet.out[-1].weight.zero_()
    return unet
