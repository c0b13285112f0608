"""What all tests of Segment Anything have."""

from __future__ import annotations

from pathlib import Path

import pytest

from scenes import mobile_sam


@pytest.fixture
def models(part):
    return part("segmentation.sam_models")


@pytest.fixture
def prompts(part):
    Point, Prompt = part("segmentation.prompts").Point, part("segmentation.prompts").Prompt
    box, points = (0.2, 0.3, 0.7, 0.9), (Point(0.4, 0.5), Point(0.6, 0.8), Point(0.9, 0.1, on=False))
    return {"box": Prompt(box), "points": Prompt(None, points), "both": Prompt(box, points[1:])}


@pytest.fixture
def sams(comfy) -> Path:
    folder = comfy.base / "models" / "sams"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def loaded(part, sams):
    """``loaded(name)``: the Segmenter of a checkpoint, and MobileSAM's weights are there."""
    if not (sams / "mobile_sam.pt").exists():
        (sams / "mobile_sam.pt").symlink_to(mobile_sam())
    return part("segmentation.sam").load
