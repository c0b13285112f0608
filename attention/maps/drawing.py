"""What the pack's pictures have in common: their colours, and text."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

BACKGROUND, INK, FAINT = (24, 24, 27), (244, 244, 245), (161, 161, 170)


def as_tensor(picture: Image.Image) -> torch.Tensor:
    """``(H, W, 3)`` in 0..1."""
    return torch.from_numpy(np.asarray(picture, dtype=np.float32) / 255)


def as_image(pixels: torch.Tensor) -> Image.Image:
    """The picture of ``(H, W, 3)`` in 0..1."""
    return Image.fromarray((pixels.clamp(0, 1) * 255).round().byte().numpy())


def write(
    draw: ImageDraw.ImageDraw, place: tuple[float, float], text: str, size: float, width: float, colour, anchor="ls"
) -> None:
    """Text at its anchor (by default the start of its baseline), cut with an ellipsis where it is wider than
    ``width``."""
    font = ImageFont.load_default(size)
    if draw.textlength(text, font) > width:
        while text and draw.textlength(f"{text}…", font) > width:
            text = text[:-1]
        text = f"{text}…"
    draw.text(place, text, font=font, fill=colour, anchor=anchor)
