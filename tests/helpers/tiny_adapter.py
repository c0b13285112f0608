"""Random checkpoints in the layout of FastComposer's, small and at full size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod, sqrt
from pathlib import Path

import torch
from safetensors.torch import save_file

DRAWN = 1 << 20
"""Numbers that are drawn for a tensor at most; those of larger ones repeat."""


@dataclass(frozen=True)
class Sizes:
    """``width`` is that of a text row; the others are those of the image encoder."""

    width: int = 32
    hidden: int = 64
    inner: int = 128
    layers: int = 2
    heads: int = 4
    patch: int = 4
    image: int = 16

    @property
    def vision_config(self) -> dict[str, int | str]:
        """In transformers' names."""
        return {
            "hidden_size": self.hidden,
            "intermediate_size": self.inner,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "patch_size": self.patch,
            "image_size": self.image,
            "projection_dim": self.width,
            "hidden_act": "quick_gelu",
        }


FULL = Sizes(width=768, hidden=1024, inner=4096, layers=24, heads=16, patch=14, image=224)


def shapes(sizes: Sizes) -> dict[str, tuple[int, ...]]:
    """Every tensor of image encoder and fusion head, and some of the parts that are not used."""
    return dict((*_image_encoder(sizes), *_fusion_head(sizes.width), *_frozen(sizes.width)))


def _norm(name: str, width: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", (width,)
    yield f"{name}.bias", (width,)


def _linear(name: str, taken: int, given: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", (given, taken)
    yield f"{name}.bias", (given,)


def _layers(name: str, count: int, width: int, inner: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    for layer in (f"{name}.encoder.layers.{number}" for number in range(count)):
        for projection in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield from _linear(f"{layer}.self_attn.{projection}", width, width)
        yield from _linear(f"{layer}.mlp.fc1", width, inner)
        yield from _linear(f"{layer}.mlp.fc2", inner, width)
        yield from _norm(f"{layer}.layer_norm1", width)
        yield from _norm(f"{layer}.layer_norm2", width)


def _image_encoder(sizes: Sizes) -> Iterator[tuple[str, tuple[int, ...]]]:
    name, positions = "image_encoder.vision_model", (sizes.image // sizes.patch) ** 2 + 1
    yield f"{name}.embeddings.class_embedding", (sizes.hidden,)
    yield f"{name}.embeddings.patch_embedding.weight", (sizes.hidden, 3, sizes.patch, sizes.patch)
    yield f"{name}.embeddings.position_embedding.weight", (positions, sizes.hidden)
    yield from _norm(f"{name}.pre_layrnorm", sizes.hidden)
    yield from _layers(name, sizes.layers, sizes.hidden, sizes.inner)
    yield from _norm(f"{name}.post_layernorm", sizes.hidden)
    yield "image_encoder.visual_projection.weight", (sizes.width, sizes.hidden)


def _fusion_head(width: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    for part, taken in (("mlp1", 2 * width), ("mlp2", width)):
        yield from _norm(f"postfuse_module.{part}.layernorm", taken)
        yield from _linear(f"postfuse_module.{part}.fc1", taken, width)
        yield from _linear(f"postfuse_module.{part}.fc2", width, width)
    yield from _norm("postfuse_module.layer_norm", width)


def _frozen(width: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield "text_encoder.embeddings.position_embedding.weight", (77, width)
    yield from _layers("text_encoder", 2, width, 4 * width)
    yield from _norm("text_encoder.final_layer_norm", width)
    yield "vae.quant_conv.weight", (8, 8, 1, 1)


def drawn(shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """Numbers around 0, or for a single row around 1, that keep activations near unit size."""
    count = prod(shape)
    numbers = torch.randn(min(count, DRAWN), generator=generator)
    numbers = numbers.repeat(-(-count // len(numbers)))[:count].view(shape)
    return numbers / sqrt(prod(shape[1:])) if len(shape) > 1 else 1 + 0.2 * numbers


def weights_of(sizes: Sizes, seed: int = 0) -> dict[str, torch.Tensor]:
    """A random checkpoint without a UNet; the buffers of positions are those that older transformers save."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for name, shape in shapes(sizes).items():
        values = drawn(shape, generator)
        found[name] = values - 1 if name.endswith(".bias") else values
    found["text_encoder.embeddings.position_ids"] = torch.arange(77)[None]
    positions = len(found["image_encoder.vision_model.embeddings.position_embedding.weight"])
    found["image_encoder.vision_model.embeddings.position_ids"] = torch.arange(positions)[None]
    return found


def names_of_unet(model) -> dict[str, str]:
    """diffusers' names of the tensors of a MODEL's UNet, with ComfyUI's."""
    from comfy.utils import unet_to_diffusers

    own = model.model.diffusion_model.state_dict()
    names = unet_to_diffusers(model.model.model_config.unet_config)
    return {f"unet.{name}": key for name, key in names.items() if key in own}


def random_unet(model, seed: int = 7) -> dict[str, torch.Tensor]:
    """Other weights for a MODEL's UNet than its own, under the checkpoint's names."""
    own, generator = model.model.diffusion_model.state_dict(), torch.Generator().manual_seed(seed)
    found = {}
    for name, key in names_of_unet(model).items():
        values = drawn(tuple(own[key].shape), generator)
        found[name] = values - 1 if name.endswith(".bias") else values
    return found


def write(weights: dict[str, torch.Tensor], path: Path, heads: int | None = None) -> Path:
    """As safetensors with the number of heads in its metadata, or as torch writes a file, by its suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        metadata = {} if heads is None else {"image_encoder_heads": str(heads)}
        save_file({name: value.contiguous() for name, value in weights.items()}, path, metadata=metadata)
    else:
        torch.save(weights, path)
    return path
