"""Pictures and prompts as the networks of Segment Anything take them."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from .prompts import Prompt


class Embedded(NamedTuple):
    """A picture as the decoder needs it: its features, and its ``(height, width)`` before and after resizing."""

    features: Any
    size: tuple[int, int]
    inner: tuple[int, int]


def prompt_tensors(prompt: Prompt, inner: tuple[int, int], device: torch.device):
    """A prompt in pixels of the resized picture: box ``(1, 4)`` and points ``(1, N, 2)`` with labels ``(1, N)``, or
    None."""
    frame = torch.tensor([inner[1], inner[0]], dtype=torch.float32, device=device)
    box = points = labels = None
    if prompt.box is not None:
        box = (torch.tensor(prompt.box, device=device).view(2, 2) * frame).view(1, 4)
    if prompt.points:
        points = torch.tensor([[point.x, point.y] for point in prompt.points], device=device)[None] * frame
        labels = torch.tensor([[int(point.on) for point in prompt.points]], device=device)
    return box, points, labels
