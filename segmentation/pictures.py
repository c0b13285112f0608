"""The regions of a binding drawn over pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont

from ..attention.engine.regions import region
from ..attention.maps.colours import line_colours
from ..attention.maps.drawing import BACKGROUND, FAINT, INK, as_tensor, write
from ..parsing.binding import Binding, Entity
from .assigning import resized
from .entity_masks import check_pictures

SMALLEST_SIDE = 512
UNIT_SHARE = 28
"""Letters are a twenty-eighth of the picture's shorter side high."""
PLATE = (0, 0, 0, 150)


def regions(binding: Binding, size: tuple[int, int]) -> tuple[tuple[Entity, ...], torch.Tensor]:
    """The entities that have a mask or a box, and those regions ``(B, E, H, W)`` in the size of the picture.

    Raises:
        ValueError: no entity has any, or they are for different numbers of pictures.
    """
    entities = tuple(each for each in binding.entities if each.mask is not None or each.box is not None)
    if not entities:
        names = ", ".join(entity.name for entity in binding.entities) or "none"
        raise ValueError(
            f"No entity of the binding has a mask or a box. Its entities are: {names}. Connect the BINDING that comes "
            "out of a node that makes masks."
        )
    found = [resized(each.mask, size) if each.mask is not None else region(None, each.box, size) for each in entities]
    longest = max(range(len(found)), key=lambda place: len(found[place]))
    pictures = len(found[longest])
    for entity, masks in zip(entities, found, strict=True):
        check_pictures((entities[longest].name, pictures), (entity.name, len(masks)))
    return entities, torch.stack([masks.expand(pictures, -1, -1) for masks in found], 1).clamp(0, 1)


def drawn(
    picture: torch.Tensor, masks: torch.Tensor, entities: Sequence[Entity], without: Sequence[Entity], opacity: float
) -> torch.Tensor:
    """A picture ``(H, W, 3)`` with the masks ``(E, H, W)`` of its entities in colours, their names, and a legend below
    that tells how much each covers and who has no region: ``(H', W', 3)``. Small pictures are enlarged."""
    scale = max(1, math.ceil(SMALLEST_SIDE / min(picture.shape[:2])))
    height, width = (side * scale for side in picture.shape[:2])
    large = resized(picture.permute(2, 0, 1).float(), (height, width)).clamp(0, 1)
    masks_large = resized(masks, (height, width))
    colours = line_colours(len(entities) + len(without))
    for colour, mask in zip(colours, masks_large, strict=False):
        ink = torch.tensor(colour).float()[:, None, None] / 255
        large = torch.lerp(large, ink.expand_as(large), mask * opacity)
        large = torch.where(_outline(mask > 0.5, max(2, scale)), ink, large)
    unit = max(12, min(height, width) // UNIT_SHARE)
    line = round(unit * 1.6)
    sheet = Image.new("RGB", (width, height + line * (len(entities) + len(without)) + unit), BACKGROUND)
    sheet.paste(Image.fromarray((large.permute(1, 2, 0) * 255).round().byte().numpy()))
    draw = ImageDraw.Draw(sheet, "RGBA")
    for colour, mask, entity in zip(colours, masks_large, entities, strict=False):
        if (mask > 0.5).any():
            _name(draw, entity.name, colour, _inside(mask > 0.5), unit, (width, height))
    for number, (colour, entity) in enumerate(zip(colours, (*entities, *without), strict=True)):
        baseline = height + line * (number + 1)
        has = number < len(entities)
        covers = f"covers {float(masks[number].mean()):.1%} of the picture" if has else "no mask and no box"
        draw.rectangle((unit, baseline - unit * 0.8, unit * 2, baseline), fill=colour if has else FAINT)
        write(draw, (unit * 2.6, baseline), f"{entity.name}: {covers}", unit, width - unit * 3, INK if has else FAINT)
    return as_tensor(sheet)


def _outline(mask: torch.Tensor, thickness: int) -> torch.Tensor:
    """The rim of a mask ``(H, W)``, on its inner side."""
    outside = F.pad((~mask).float()[None, None], [thickness] * 4, value=1.0)
    return mask & (F.max_pool2d(outside, 2 * thickness + 1, stride=1)[0, 0] > 0)


def _inside(mask: torch.Tensor) -> tuple[int, int]:
    """(x, y) of the pixel of a mask ``(H, W)`` that is nearest to the middle of the mask."""
    rows, columns = mask.nonzero(as_tuple=True)
    distance = (rows - rows.float().mean()) ** 2 + (columns - columns.float().mean()) ** 2
    nearest = int(distance.argmin())
    return int(columns[nearest]), int(rows[nearest])


def _name(draw: ImageDraw.ImageDraw, name: str, colour, place: tuple[int, int], unit: int, size: tuple[int, int]):
    """A name on a plate about a place, wholly inside the picture."""
    font = ImageFont.load_default(unit)
    half, pad = draw.textlength(name, font) / 2, unit // 3
    x = min(max(place[0], half + pad), size[0] - half - pad)
    y = min(max(place[1], unit), size[1] - unit)
    draw.rectangle((x - half - pad, y - unit * 0.75, x + half + pad, y + unit * 0.75), fill=PLATE)
    draw.text((x, y), name, font=font, fill=colour, anchor="mm")
