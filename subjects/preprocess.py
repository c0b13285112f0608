"""Reference pictures as the image encoder gets them: FastComposer (Xiao et al. 2023, arXiv 2305.10431), published code.

Padded to a square with black, resized with antialiasing, normalised as for CLIP. Other than CLIP's own preprocessing it
cuts nothing off. The published code rounds the resized picture to 8 bits, which is left out here.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

MEAN = (0.48145466, 0.4578275, 0.40821073)
DEVIATION = (0.26862954, 0.26130258, 0.27577711)
"""CLIP's, of red, green and blue."""


def references(images: torch.Tensor, mask: torch.Tensor | None) -> tuple[torch.Tensor, ...]:
    """Pictures ``(N, H, W, 3 or more)`` in 0..1 as squares ``(3, S, S)``, black where a mask ``(M, h, w)`` is black.

    Raises:
        ValueError: there is neither one mask nor one for each picture, or one is empty.
    """
    pictures = images[..., :3].movedim(-1, 1).float().cpu()
    if mask is not None:
        if len(mask) not in (1, len(pictures)):
            raise ValueError(
                f"There are {len(mask)} masks for {len(pictures)} reference pictures. Give one mask for all of them, "
                "or one for each."
            )
        empty = [str(number) for number, each in enumerate(mask, 1) if not each.any()]
        if empty:
            raise ValueError(
                f"Mask {', '.join(empty)} of the reference pictures is empty (black everywhere), so nothing of the "
                "subject is left. The subject has to be white; the MASK of Load Image is for this to be inverted."
            )
        kept = mask.float().cpu()[:, None]
        if kept.shape[-2:] != pictures.shape[-2:]:
            kept = F.interpolate(kept, size=pictures.shape[-2:], mode="bilinear", antialias=True)
        pictures = pictures * kept
    return tuple(square(picture) for picture in pictures)


def square(picture: torch.Tensor) -> torch.Tensor:
    """``(3, H, W)`` with black at both sides of the shorter way, rounded down: it may stay one pixel short."""
    height, width = picture.shape[-2:]
    beside, above = max(0, height - width) // 2, max(0, width - height) // 2
    return F.pad(picture, (beside, beside, above, above))


def normalised(picture: torch.Tensor, size: int) -> torch.Tensor:
    """A square ``(3, S, S)`` in 0..1 as the encoder's ``(3, size, size)``."""
    resized = F.interpolate(picture[None], size=(size, size), mode="bilinear", antialias=True)[0]
    mean, deviation = (resized.new_tensor(values)[:, None, None] for values in (MEAN, DEVIATION))
    return (resized - mean) / deviation
