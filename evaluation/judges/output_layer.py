"""The output layer of a text encoder that ComfyUI loads without it: rows of it, from the file the encoder came from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

WEIGHT = "lm_head.weight"
SCALES = ("lm_head.weight_scale", "lm_head.scale_weight")
"""What the numbers of a layer in 8 bits are multiplied by, in new and in old files."""

NUMBERS = (torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2)


def file_of(clip: Any) -> Path:
    """The file of a CLIP that holds its output layer, among those that ComfyUI loaded it from.

    Raises:
        ValueError: there is none. The message is the rest of a sentence.
    """
    from safetensors import SafetensorError, safe_open

    known = getattr(clip.patcher, "cached_patcher_init", None)
    names = known[1][0] if known else ()
    files = [Path(name) for name in ([names] if isinstance(names, str) else names)]
    for file in files:
        try:
            with safe_open(file, "pt") as opened:
                if WEIGHT in opened.keys():  # noqa: SIM118, no dict
                    return file
        except (OSError, SafetensorError):
            continue
    raise ValueError(
        f"ComfyUI loads it without its output layer ({WEIGHT}), and "
        + (f"{', '.join(file.name for file in files)} does not have it" if files else "its file is not known")
    )


def rows(file: Path, tokens: Sequence[int]) -> torch.Tensor:
    """``(T, C)`` in float32: what the hidden state is multiplied by for the logits of these tokens.

    Raises:
        ValueError: the layer is stored in a form that is not read here.
    """
    from safetensors import safe_open

    with safe_open(file, "pt") as opened:
        layer = opened.get_slice(WEIGHT)
        found = torch.cat([layer[token : token + 1] for token in tokens])
        if found.dtype not in NUMBERS:
            raise ValueError(
                f"{file.name} has its output layer ({WEIGHT}) as {str(found.dtype).removeprefix('torch.')}, which is "
                "not read here. Take the text encoder's file in bf16 or fp8, or another judge."
            )
        scale = next((opened.get_tensor(name).float() for name in SCALES if name in opened.keys()), 1.0)  # noqa: SIM118
    return found.float() * scale
