"""A small random ControlNet for the tiny SD1 layout, in the keys that published ones have."""

from pathlib import Path

import torch
from comfy.cldm.cldm import ControlNet
from comfy.ops import manual_cast
from safetensors.torch import save_file

from tiny_models import COMMON, TinySD1, randomise


@torch.inference_mode()
def write_controlnet(path: Path) -> None:
    blocks = {key: value for key, value in TinySD1.blocks.items() if key != "transformer_depth_output"}
    config = {**COMMON, **blocks, "context_dim": TinySD1.unet_config["context_dim"]}
    del config["out_channels"]
    heads = TinySD1.unet_extra_config
    network = ControlNet(hint_channels=3, dtype=torch.float32, operations=manual_cast, **{**config, **heads})
    randomise(network, 9, scale=0.5)
    save_file({f"control_model.{key}": value.contiguous() for key, value in network.state_dict().items()}, path)
