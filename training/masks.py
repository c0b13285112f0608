"""Pictures and their masks in the sizes that a training has them, as the published data pipeline of TokenCompose makes
them (Wang et al. 2023, arXiv 2312.03626)."""

from __future__ import annotations

import io
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from PIL import Image, ImageOps

UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
"""What PIL raises for a file that is no picture, or a broken one."""


def opened(path: Path) -> Image.Image:
    """A picture as people see it, in RGB.

    Raises:
        One of UNREADABLE: it is none, or a broken one.
    """
    with Image.open(io.BytesIO(path.read_bytes())) as picture:
        return ImageOps.exif_transpose(picture).convert("RGB")


def opened_mask(path: Path) -> Image.Image:
    """A mask in grey: the first channel of a coloured one, as the published masks are written.

    Raises:
        One of UNREADABLE: it is none, or a broken one.
    """
    return opened(path).getchannel(0)


class Crop(NamedTuple):
    """The middle square of a picture that was ``resized`` to (width, height): its left and upper edge there."""

    resized: tuple[int, int]
    left: int
    top: int


def crop_of(shape: tuple[int, int], size: int) -> Crop:
    """Of a picture of (width, height): its shorter side becomes ``size``, and so does the square, with the roundings of
    torchvision's Resize and CenterCrop, which the published code takes."""
    short = min(shape)
    width, height = (size if side == short else int(size * side / short) for side in shape)
    return Crop((width, height), round((width - size) / 2), round((height - size) / 2))


def cropped(picture: Image.Image, size: int) -> Image.Image:
    """The middle square of a picture or mask, ``size`` pixels wide."""
    crop = crop_of(picture.size, size)
    found = picture.resize(crop.resized, Image.Resampling.BILINEAR)
    return found.crop((crop.left, crop.top, crop.left + size, crop.top + size))


def resized(mask: torch.Tensor, grid: tuple[int, int], antialias: bool = True) -> torch.Tensor:
    """Which cells of a grid are in a mask ``(..., H, W)``: ``(..., h, w)``, 1 where bilinear resizing leaves anything.

    So a mask grows by up to a cell on each side. The published code leaves ``antialias`` to the version of torchvision,
    the code of CoMat (Jiang et al. 2024, arXiv 2404.03653) has it; without it small masks vanish.
    """
    flat = mask.float().reshape(-1, 1, *mask.shape[-2:])
    found = F.interpolate(flat, size=grid, mode="bilinear", antialias=antialias) > 0
    return found.float().reshape(*mask.shape[:-2], *grid)
