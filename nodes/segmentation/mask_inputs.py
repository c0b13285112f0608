"""Inputs, outputs and reports that the nodes of entity masks share."""

from collections.abc import Sequence

import torch
from comfy_api.latest import io

from ...parsing.binding import Entity
from ...segmentation.entity_masks import EMPTY, NOT_FOUND, OVERLAPS, SMALLER, coverage
from ..shared import wires

CATEGORY = "semantic binding/masks"
MANY_PICTURES = 4


def binding_input():
    return wires.Binding.Input("binding", tooltip="The prompt's entities, from Bind Prompt or another node.")


def skip_background_input():
    return io.Boolean.Input(
        "skip_background",
        default=True,
        tooltip=(
            "Leave out entities that no one can point at: backgrounds (sky, grass, room, ...) and abstract nouns "
            "(atmosphere, style, ...). They get no mask."
        ),
    )


def not_found_input():
    return io.Combo.Input(
        "not_found",
        options=list(NOT_FOUND),
        default=EMPTY,
        tooltip=(
            "What happens to an entity that is not found in a picture. empty mask: its mask is black, and the panel "
            "says so. stop: the run ends with an error that names it."
        ),
    )


def overlaps_input(default: str = SMALLER):
    return io.Combo.Input(
        "overlaps",
        options=list(OVERLAPS),
        default=default,
        advanced=True,
        tooltip=(
            "Who has a pixel that is in several masks. smaller in front: the entity of the smaller mask, as things in "
            "front cover less. first in front: the entity that comes first in the prompt. keep: all of them."
        ),
    )


def binding_output():
    return wires.Binding.Output(
        display_name="binding", tooltip="The binding with the regions. Connect this one to the nodes that use them."
    )


def masks_output():
    return io.Mask.Output(
        display_name="masks",
        tooltip="One mask for each picture and entity: all entities of the first picture, then those of the second.",
    )


def report_of(entities: Sequence[Entity], skipped: Sequence[Entity], masks: torch.Tensor) -> list[str]:
    """What became of each entity, line by line, for masks ``(B, E, H, W)``."""
    lines = [f"{entity.name}: {_covers(parts)}" for entity, parts in zip(entities, coverage(masks), strict=True)]
    return lines + [f"{entity.name}: skipped, it is a background or abstract" for entity in skipped]


def _covers(parts: list[float]) -> str:
    if not any(parts):
        return "not found, its mask is empty"
    listed = ", ".join("not found" if part == 0 else f"{part:.1%}" for part in parts[:MANY_PICTURES])
    more = f" and {len(parts) - MANY_PICTURES} more" if len(parts) > MANY_PICTURES else ""
    return f"covers {listed}{more} of the picture"
