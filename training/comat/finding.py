"""Where the entities of a prompt are in the pictures that were drawn for it, for CoMat (Jiang et al. 2024, arXiv
2404.03653): masks of the pictures as they are, without gradients.

The published code asks Grounding DINO for the nouns alone, without their attributes, has FastSAM cut out what is in the
boxes, and takes all that is found of a noun together. Here it is Segment Anything that cuts out. An entity that is not
found has a black mask: attention to it is wanted nowhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import comfy.model_management
import numpy as np
import torch

from ...attention.maps.heatmaps import normalised, ranges, upsampled
from ...parsing.binding import Entity
from ...segmentation.attention_masks import HIGHEST, Cutting, masks_of
from ...segmentation.detection import ALL, Search, entities_in
from ...segmentation.prompts import Prompt
from ...segmentation.sam import BEST, Segmenter
from ...world.names import SHAPES

if TYPE_CHECKING:
    from ...segmentation.detector_files import Detector
    from ..network import Seen

BOX_THRESHOLD, TEXT_THRESHOLD = 0.3, 0.25
"""Of Grounding DINO, as published."""


class Finder(Protocol):
    """A way of finding entities."""

    def find(
        self, pictures: torch.Tensor, entities: Sequence[Entity], maps: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The masks of entities ``(B, G, H, W)``, 0 or 1, float32 on the CPU.

        Args:
            pictures: ``(B, H, W, 3)``, all of the prompt that the entities are of; what is beyond 0..1 is cut off.
            entities: G of them, at least one.
            maps: ``(B, G, h, w)``, how much attention each place gave each entity (see ``attention_maps``).
        """


@dataclass(frozen=True)
class ByShape:
    """By the demo world's detector: an entity is where the shape is that its noun names. Nouns that are no shape of
    that world are not found."""

    def find(
        self, pictures: torch.Tensor, entities: Sequence[Entity], maps: torch.Tensor | None = None
    ) -> torch.Tensor:
        from ...evaluation.detect import detect

        shapes = [shape_of(entity) for entity in entities]
        masks = np.zeros((len(pictures), len(shapes), *pictures.shape[1:3]), np.float32)
        for of_picture, picture in zip(masks, shown(pictures).numpy(), strict=True):
            for thing in detect(picture):
                for mask, shape in zip(of_picture, shapes, strict=True):
                    if shape is not None and thing.shape == shape:
                        mask[thing.mask] = 1.0
        return torch.from_numpy(masks)


def shape_of(entity: Entity) -> str | None:
    """The demo world's shape that an entity's noun names, in the singular or plural."""
    word = entity.noun.text.lower().split()[-1]
    return next((shape for shape in SHAPES if word in (shape, f"{shape}s", f"{shape}es")), None)


@dataclass(frozen=True, eq=False)
class BySegmenter:
    """By a detector of words, and Segment Anything for what is in its boxes."""

    detector: Detector
    segmenter: Segmenter
    box_threshold: float = BOX_THRESHOLD
    text_threshold: float = TEXT_THRESHOLD

    def find(
        self, pictures: torch.Tensor, entities: Sequence[Entity], maps: torch.Tensor | None = None
    ) -> torch.Tensor:
        search = Search(self.box_threshold, self.text_threshold, with_attributes=False, boxes=ALL)
        pictures = shown(pictures)
        self.detector.to_device()
        prompts = []
        for picture in pictures:
            comfy.model_management.throw_exception_if_processing_interrupted()
            boxes = entities_in(self.detector, picture, entities, search).boxes
            prompts.append([[Prompt(found.box) for found in boxes.get(entity.name, ())] for entity in entities])
        interrupted = comfy.model_management.throw_exception_if_processing_interrupted
        # Stacking makes ordinary tensors of those of inference mode, which no loss could be computed with.
        return torch.stack(
            [
                self.segmenter.masks(picture, of_picture, BEST, interrupted)
                for picture, of_picture in zip(pictures, prompts, strict=True)
            ]
        )


@dataclass(frozen=True)
class ByAttention:
    """By where the model itself looked for each entity. It needs no other network, and tells what the model meant
    rather than what the picture shows. CoMat does not do so."""

    cutting: Cutting = Cutting(HIGHEST, 0.5, True)

    def find(
        self, pictures: torch.Tensor, entities: Sequence[Entity], maps: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Raises:
        ValueError: there are no maps, or not one for each entity in each picture.
        """
        wanted = (len(pictures), len(entities))
        if maps is None or tuple(maps.shape[:2]) != wanted:
            given = "none" if maps is None else f"{maps.shape[1]} in each of {maps.shape[0]}"
            raise ValueError(
                f"Masks from attention need a map for each of {wanted[1]} entities in each of {wanted[0]} pictures; "
                f"given: {given}. Have the rollout capture a step, or find entities in another way."
            )
        maps = upsampled(maps.detach().float().cpu(), tuple(pictures.shape[1:3]))
        return masks_of(normalised(maps, *ranges(maps, "each map")), self.cutting)


def attention_maps(seen: Sequence[Seen], place: int, columns: Sequence[slice]) -> torch.Tensor:
    """``(1, G, h, w)`` for ``find``: what one sample's patches gave to each entity, on the finest grid seen.

    The mean over heads, over the entity's words and over layers, as in DAAM (Tang et al. 2023, arXiv 2210.04885).

    Args:
        seen: what a pass has shown; with several captured steps all of their layers.
        place: of the sample in the batch.
        columns: of the entities among the rows looked at (``grounding.columns_of``).
    """
    finest = max((each.grid for each in seen), key=lambda grid: grid[0] * grid[1])
    layers = []
    for each in seen:
        of_rows = each.maps[place].detach().float().mean(0)
        of_entities = torch.stack([of_rows[:, own].mean(1) for own in columns])
        layers.append(upsampled(of_entities.unflatten(1, each.grid)[None], finest))
    return torch.stack(layers).mean(0)


def shown(pictures: torch.Tensor) -> torch.Tensor:
    """Pictures as they are looked at: on the CPU, in 0..1, without gradients."""
    return pictures.detach().float().cpu().clamp(0, 1)
