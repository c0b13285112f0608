"""Which attention layers a UNet has, and on what grid each of them works."""

from __future__ import annotations

from typing import NamedTuple

from comfy.ldm.modules.attention import SpatialTransformer, SpatialVideoTransformer
from comfy.ldm.modules.diffusionmodules.openaimodel import Downsample, UNetModel, Upsample


class Layer(NamedTuple):
    """One transformer block. ``level`` counts halvings of the latent's grid: 0 is the latent's own, 2 a quarter of it.

    The first three fields are ComfyUI's key of the block: "input", "middle" or "output", the number of the UNet block,
    and the place of the transformer block within it.
    """

    block: str
    number: int
    index: int
    level: int

    @property
    def key(self) -> tuple[str, int, int]:
        return self[:3]

    @property
    def name(self) -> str:
        return f"{self.block} {self.number}.{self.index}"


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
