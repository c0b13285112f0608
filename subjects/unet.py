"""The UNet that an adapter was trained with, set as patches on the weights of a MODEL of the same layout."""

from __future__ import annotations

import comfy.utils

from .checkpoint import Checkpoint, listed

FAMILIES = {768: "Stable Diffusion 1", 1024: "Stable Diffusion 2", 2048: "SDXL"}
"""By the width of their conditioning."""
CROSS_ATTENTION = "attn2.to_k.weight"


def family(width: int | None) -> str:
    """A kind of model, for people, by the width of the conditioning that it takes."""
    name = FAMILIES.get(width)
    told = f"rows of {width} numbers" if width else "no cross-attention of this kind"
    return f"{name} ({told})" if name else f"a model with {told}"


def with_unet(model, checkpoint: Checkpoint, width: int):
    """A clone of the MODEL with the weights of a checkpoint's UNet, which has diffusers' names and may be only a part.

    They come before all other patches of these weights, so that LoRAs add to them wherever their loaders stand.

    Args:
        width: of the conditioning that the adapter is for.

    Raises:
        ValueError: they are not those of such a model.
    """
    config = model.model.model_config.unet_config
    names = comfy.utils.unet_to_diffusers(config)
    own = {name: tuple(value.shape) for name, value in model.model.diffusion_model.state_dict().items()}
    unknown = [name for name in checkpoint.unet if names.get(name) not in own]
    shapes = [
        f"{name} is {tuple(value.shape)}, not {own[names[name]]}"
        for name, value in checkpoint.unet.items()
        if name not in unknown and tuple(value.shape) != own[names[name]]
    ]
    if unknown or shapes:
        keys = [value.shape[1] for name, value in checkpoint.unet.items() if name.endswith(CROSS_ATTENTION)]
        told = [("the MODEL has no", unknown), ("of another shape", shapes)]
        problems = "; ".join(f"{what}: {listed(names)}" for what, names in told if names)
        raise ValueError(
            f"The UNet in {checkpoint.path} is for {family(keys[0] if keys else width)}, and the MODEL is "
            f"{family(_width(own))} of the kind {type(model.model.model_config).__name__}. Connect the MODEL of a "
            f"checkpoint that it is for. Its tensors do not fit: {problems}."
        )
    clone = model.clone()
    patches = {f"diffusion_model.{names[name]}": ("set", (value,)) for name, value in checkpoint.unet.items()}
    for key in clone.add_patches(patches):
        clone.patches[key].insert(0, clone.patches[key].pop())
    return clone


def _width(own: dict[str, tuple[int, ...]]) -> int | None:
    return next((shape[1] for name, shape in own.items() if name.endswith(CROSS_ATTENTION)), None)
