"""Small random ControlNets for the tiny layouts, in the keys that published ones have."""

from pathlib import Path

import torch
from comfy.cldm.cldm import ControlNet
from comfy.ops import manual_cast
from safetensors.torch import save_file

from tiny_models import COMMON, LAYOUTS, randomise


@torch.inference_mode()
def write_controlnet(path: Path, layout: str = "sd1") -> None:
    chosen = LAYOUTS[layout]
    config = {**COMMON, **chosen.unet_config, **chosen.blocks, **chosen.unet_extra_config}
    for name in ("out_channels", "transformer_depth_output", "use_temporal_attention"):
        config.pop(name, None)
    network = ControlNet(hint_channels=3, dtype=torch.float32, operations=manual_cast, **config)
    randomise(network, 9, scale=0.5)
    save_file({f"control_model.{key}": value.contiguous() for key, value in network.state_dict().items()}, path)
