"""Which attention layers a UNet has, and on what grid each of them works."""

from __future__ import annotations

from comfy.ldm.modules.attention import SpatialTransformer, SpatialVideoTransformer
from comfy.ldm.modules.diffusionmodules.openaimodel import Downsample, UNetModel, Upsample

from .calls import Layer


def layers_of(model) -> tuple[Layer, ...]:
    """The transformer blocks of a MODEL, in the order they run.

    Raises:
        ValueError: the model is no image UNet with cross-attention.
    """
    unet = model.get_model_object("diffusion_model")
    modules = list(unet.modules()) if isinstance(unet, UNetModel) else []
    if any(isinstance(module, SpatialVideoTransformer) for module in modules) or not any(
        isinstance(module, SpatialTransformer) for module in modules
    ):
        raise ValueError(
            f"This model ({type(model.model).__name__}, network {type(unet).__name__}) is not supported: semantic "
            "binding works on UNet image models with cross-attention to the prompt, such as Stable Diffusion 1 and 2, "
            "SDXL and their finetunes. Connect such a model."
        )
    blocks = [("input", number, block) for number, block in enumerate(unet.input_blocks)]
    if unet.middle_block is not None:
        blocks.append(("middle", 0, unet.middle_block))
    blocks += [("output", number, block) for number, block in enumerate(unet.output_blocks)]

    found, level = [], 0
    for name, number, block in blocks:
        for module in block:
            if isinstance(module, SpatialTransformer):
                found += [Layer(name, number, index, level) for index in range(len(module.transformer_blocks))]
            level += isinstance(module, Downsample) - isinstance(module, Upsample)
    return tuple(found)
