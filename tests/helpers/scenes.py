"""Pictures of the demo world's shapes with their exact masks, larger than the demo model makes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from clone import ROOT

MOBILE_SAM = ROOT / ".dev" / "models" / "mobile_sam.pt"


@dataclass(frozen=True)
class Pictured:
    """A rendered scene: ``image (H, W, 3)``, and of each shape its name, mask ``(H, W)`` and box as fractions."""

    scene: Any
    image: torch.Tensor
    masks: dict[str, torch.Tensor]

    @property
    def boxes(self) -> dict[str, tuple[float, ...]]:
        return {name: box_around(mask) for name, mask in self.masks.items()}

    @property
    def centres(self) -> dict[str, tuple[float, float]]:
        """A point on each shape: its origin, which lies inside all six of them."""
        size = self.image.shape[0]
        return {thing.shape: (thing.x / size, thing.y / size) for thing in self.scene.things}


def pictured(part: Callable[[str], ModuleType], seed: int, size: int = 512) -> Pictured:
    """A scene of the demo model's training distribution, without marks on its shapes, drawn in another size."""
    world = part("world.scenes")
    scene = world.sample_scene(np.random.default_rng(seed))
    scale = size / world.IMAGE_SIZE
    things = tuple(
        replace(thing, mark=None, x=thing.x * scale, y=thing.y * scale, radius=thing.radius * scale)
        for thing in scene.things
    )
    scene = replace(scene, things=things)
    pixels = np.arange(size) + 0.5
    masks = {
        thing.shape: torch.from_numpy(
            world.signed_distance(
                thing.shape, ((pixels - thing.x) / thing.radius)[None, :], ((pixels - thing.y) / thing.radius)[:, None]
            )
            <= 0
        ).float()
        for thing in things
    }
    return Pictured(scene, torch.from_numpy(world.render(scene, size)), masks)


def box_around(mask: torch.Tensor) -> tuple[float, ...]:
    """Left, top, right, bottom of what a mask covers, as fractions."""
    rows, columns = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
    height, width = mask.shape
    return (
        columns[0].item() / width,
        rows[0].item() / height,
        (columns[-1].item() + 1) / width,
        (rows[-1].item() + 1) / height,
    )


def core_box(box: tuple[float, ...], size: int, **more: Any) -> dict:
    """A box as core's BOUNDING_BOX has it."""
    left, top, right, bottom = (edge * size for edge in box)
    return {"x": left, "y": top, "width": right - left, "height": bottom - top, **more}


def iou(found: torch.Tensor, truth: torch.Tensor) -> float:
    found, truth = found > 0.5, truth > 0.5
    return ((found & truth).sum() / (found | truth).sum()).item()


def mobile_sam() -> Path:
    """MobileSAM's weights, which dev.py gets."""
    if not MOBILE_SAM.is_file():
        pytest.fail(f"There is no {MOBILE_SAM}: `python3 dev.py test` gets it.", pytrace=False)
    return MOBILE_SAM
