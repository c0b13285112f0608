"""Maps as one small picture of 8 bits, with the scale of each, for a viewer that fetches them as a file."""

from __future__ import annotations

import io
import math

import torch
import torch.nn.functional as F
from PIL import Image

from .heatmaps import normalised

LEVELS = 255
SCALE_BYTES = 8
"""Two numbers of float32: the value of byte 0 and that of byte 255."""
MOST_PATCHES = 1024
"""Of an affinity that is sent; there are as many maps as patches."""


def atlas(maps: torch.Tensor) -> bytes:
    """Maps ``(n, h, w)`` as a grey PNG.

    The first rows hold, for each map, the values that bytes 0 and 255 stand for (its smallest and largest) as float32,
    little endian; they fill whole rows. Below them lie the maps, in rows of as many as the picture is wide.
    """
    count, height, width = maps.shape
    columns = min(count, math.ceil(math.sqrt(count * height / width)))
    rows = math.ceil(count / columns)
    low, high = maps.amin((1, 2)), maps.amax((1, 2))
    scales = torch.stack([low, high], dim=1).float().contiguous().view(torch.uint8).flatten()
    pixels = (normalised(maps, low[:, None, None], high[:, None, None]) * LEVELS).round().byte()
    pixels = F.pad(pixels, (0, 0, 0, 0, 0, columns * rows - count)).unflatten(0, (rows, columns))
    pixels = pixels.transpose(1, 2).reshape(rows * height, columns * width)
    head = F.pad(scales, (0, -len(scales) % (columns * width))).reshape(-1, columns * width)
    file = io.BytesIO()
    Image.fromarray(torch.cat([head, pixels]).numpy()).save(file, "PNG", compress_level=9)
    return file.getvalue()


def sent_size(size: tuple[int, int]) -> tuple[int, int]:
    """The grid on which an affinity is sent: its own, or a coarser one of at most ``MOST_PATCHES`` patches."""
    factor = max(1.0, math.sqrt(math.prod(size) / MOST_PATCHES))
    return math.floor(size[0] / factor), math.floor(size[1] / factor)


def lookers(affinity: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """For each patch, which patches look at it.

    Args:
        affinity: ``(h * w, h * w)``, the probability that a patch (first) attends to another (second).
        size: (h, w).

    Returns:
        ``(h' * w', h', w')`` on the grid that is sent: for each patch looked at, the probability with which each patch
        attends to it. On a coarser grid that is the mean over the patches that look, and the sum over those looked at.
    """
    sent = sent_size(size)
    maps = affinity.T.reshape(1, -1, *size)
    if sent == size:
        return maps[0]
    mean = F.interpolate(maps, size=sent, mode="area")[0]
    by_looker = mean.permute(1, 2, 0).reshape(1, -1, *size)
    total = F.interpolate(by_looker, size=sent, mode="area")[0] * (math.prod(size) / math.prod(sent))
    return total.reshape(*sent, -1).permute(2, 0, 1)
