"""A loaded subject adapter: what turns reference pictures into embeddings, and fuses them with the rows of words."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import comfy.model_management
import torch
from comfy.model_patcher import ModelPatcher

from .checkpoint import FUSION_HEAD, IMAGE_ENCODER, Checkpoint, load_into
from .fusion import FusionHead
from .image_encoder import ImageEncoder, config_of
from .preprocess import normalised
from .subject import Subject


@dataclass(frozen=True, eq=False)
class Adapter:
    """What is on the wire. The image encoder is moved to the device by ComfyUI when it is used; the fusion head is
    small and stays on the CPU. ``unknown`` are the names of tensors that the file has beside what is known."""

    name: str
    patcher: ModelPatcher
    fusion: FusionHead
    has_unet: bool
    unknown: tuple[str, ...]

    @property
    def width(self) -> int:
        """Of the rows that it fuses with."""
        return self.fusion.width

    @torch.inference_mode()
    def embeddings(self, subjects: Iterable[Subject], step: Callable[[], None]) -> torch.Tensor:
        """``(S, D)`` in 32 bits, on the CPU: for each subject the mean over the pictures that count.

        ``step`` is called after each picture.
        """
        comfy.model_management.load_model_gpu(self.patcher)
        found = []
        for subject in subjects:
            of_subject = []
            for picture in subject.chosen:
                pixels = normalised(picture, self.patcher.model.image_size)[None]
                of_subject.append(self.patcher.model.embedded(pixels.to(self.patcher.load_device)).float().cpu())
                step()
            found.append(torch.cat(of_subject).mean(0))
        return torch.stack(found)


@torch.inference_mode(False)
def build(checkpoint: Checkpoint, name: str) -> Adapter:
    """The adapter of a checkpoint.

    Raises:
        ValueError: its tensors do not fit one another.
    """
    path = checkpoint.path
    try:
        config = config_of(checkpoint.image_encoder, checkpoint.heads)
        fusion = FusionHead.for_weights(checkpoint.fusion_head)
    except KeyError as error:
        raise ValueError(f"The tensors of {path} do not make up an adapter. Missing: {error}.") from error
    except ValueError as error:
        raise ValueError(f"The tensors of {path} do not make up an adapter. {error}") from error
    if config["projection_dim"] != fusion.width:
        raise ValueError(
            f"The tensors of {path} do not make up an adapter. Its image encoder gives {config['projection_dim']} "
            f"numbers, and its fusion head takes {fusion.width}."
        )
    load_device = comfy.model_management.text_encoder_device()
    offload_device = comfy.model_management.text_encoder_offload_device()
    encoder = ImageEncoder(config, comfy.model_management.text_encoder_dtype(load_device), offload_device)
    unknown = (
        *load_into(encoder, checkpoint.image_encoder, IMAGE_ENCODER, path),
        *load_into(fusion, checkpoint.fusion_head, FUSION_HEAD, path),
        *checkpoint.unknown,
    )
    patcher = ModelPatcher(encoder.eval(), load_device=load_device, offload_device=offload_device)
    return Adapter(name, patcher, fusion, bool(checkpoint.unet), unknown)
