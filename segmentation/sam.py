"""Segment Anything as ComfyUI holds a model: loaded once, and on the device only while it is used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakValueDictionary

import comfy.model_management
import torch
from comfy.model_patcher import ModelPatcher

from .prompts import Prompt
from .sam_files import fingerprint, path_of
from .sam_models import build

CHOICES = BEST, SMALLEST, LARGEST, SINGLE = "best of three", "smallest of three", "largest of three", "single"


@dataclass(frozen=True, eq=False)
class Segmenter:
    """A loaded Segment Anything: what is on the wire. ``family`` is one of sam_files'."""

    name: str
    family: str
    patcher: ModelPatcher

    @torch.inference_mode()
    def masks(
        self, image: torch.Tensor, prompts: Sequence[Sequence[Prompt]], choice: str, step: Callable[[], None]
    ) -> torch.Tensor:
        """The masks ``(E, H, W)`` of things in a picture ``(H, W, 3)``, 0 or 1; of each, all its prompts' together.

        ``choice`` (of ``CHOICES``) is which of the model's masks for a prompt is taken. ``step`` is called after the
        picture and after each prompt.
        """
        model = self.patcher.model
        height, width = image.shape[:2]
        found = torch.zeros(len(prompts), height, width)
        if not any(prompts):
            return found
        memory = model.memory + 8 * 4 * height * width
        comfy.model_management.load_models_gpu([self.patcher], memory_required=memory, force_full_load=True)
        embedded = model.embed(image[..., :3].to(self.patcher.load_device, torch.float32))
        step()
        for place, of_thing in enumerate(prompts):
            for prompt in of_thing:
                logits, scores = model.decode(embedded, prompt, three=choice != SINGLE)
                found[place] = torch.maximum(found[place], chosen(logits > 0, scores, choice).float().cpu())
                step()
        return found


def chosen(masks: torch.Tensor, scores: torch.Tensor, choice: str) -> torch.Tensor:
    """One of the masks ``(N, H, W)`` that the model has for a prompt, ``(H, W)``.

    Best is that of the highest score ``(N,)``, the IoU that the model expects; an empty mask is never the smallest.
    """
    areas = masks.sum((-2, -1))
    if choice == SMALLEST:
        return masks[areas.where(areas > 0, masks[0].numel() + 1).argmin()]
    return masks[(areas if choice == LARGEST else scores).argmax()]


_loaded: WeakValueDictionary[tuple, Segmenter] = WeakValueDictionary()


def load(name: str | None) -> Segmenter:
    """The checkpoint of that name in models/sams; one that is in use anywhere is not loaded again.

    Raises:
        ValueError: there is none, it is of no known family, or a package is missing.
    """
    path: Path = path_of(name)
    key = fingerprint(path)
    segmenter = _loaded.get(key)
    if segmenter is None:
        family, model = build(path)
        patcher = ModelPatcher(
            model,
            load_device=comfy.model_management.get_torch_device(),
            offload_device=comfy.model_management.unet_offload_device(),
        )
        segmenter = _loaded[key] = Segmenter(name, family, patcher)
    return segmenter
