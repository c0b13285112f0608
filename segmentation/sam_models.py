"""The networks of Segment Anything's families, built to the sizes of a checkpoint's tensors, behind one interface."""

from __future__ import annotations

from pathlib import Path

import torch

from .sam2_network import load_sam2
from .sam_files import SAM2, VIT, check_sam2, family_of, read_weights
from .sam_network import CLASSIFIER, SegmentAnything, mobile, timm_name, vit
from .sam_weights import check_fits


def build(path: Path) -> tuple[str, torch.nn.Module]:
    """The family of a checkpoint and its network, in 32 bits, on the CPU.

    Raises:
        ValueError: it is no checkpoint of a known family, its tensors do not fit, or a package is missing.
    """
    if path.is_dir():
        check_sam2(path)
        return SAM2, load_sam2(path)
    weights = read_weights(path)
    family = family_of(weights, path)
    weights = {name: value.float() for name, value in weights.items()}
    try:
        if family == VIT:
            sam, memory = vit(weights)
        else:
            weights = {name: value for name, value in weights.items() if not name.startswith(CLASSIFIER)}
            sam, memory = mobile(weights)
            weights = {timm_name(name): value for name, value in weights.items()}
    except KeyError as missing:
        raise ValueError(
            f"{path} is not a whole {family} checkpoint: it has no {missing}. Download it again."
        ) from None
    check_fits(sam, weights, path, family)
    sam.load_state_dict(weights, assign=True)
    return family, SegmentAnything(sam.eval().requires_grad_(False), memory)
