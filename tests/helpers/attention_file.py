"""Files of recorded attention that are made up, for a graph that loads and shows them."""

from __future__ import annotations

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

SUFFIX = ".attention.safetensors"
LABELS = ["cat", "dog", "<img src=x onerror='window.broken = 1'>"]
PEAKS = {"cat": (3, 12), "dog": (11, 4)}
"""Rows and columns of the latent's grid at which the maps of the first kept step are highest."""
SIZE = 16


def peak(row: int, column: int, height: float) -> torch.Tensor:
    """A map of 16 x 16 that falls off evenly around its peak."""
    rows, columns = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    return height * torch.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 18)


def layered_maps(latents: int = 2) -> list[torch.Tensor]:
    """Maps ``(steps, latents, labels, h, w)`` of three labels and steps on 16 x 16 and on 8 x 8.

    In the second step the peaks of cat and dog have changed places, in the third there are none; in every further
    picture all is a little weaker.
    """
    first = torch.stack([peak(*PEAKS["cat"], 0.6), peak(*PEAKS["dog"], 0.3), torch.full((SIZE, SIZE), 0.05)])
    steps = torch.stack([first, first[[1, 0, 2]], first[[2, 2, 2]]])
    fine = torch.stack([steps * 0.9**latent for latent in range(latents)], dim=1)
    return [fine, F.avg_pool2d(fine.flatten(0, 1), 2).unflatten(0, (3, latents)) / 2]


def expected(maps: list[torch.Tensor], layers: list[int]) -> torch.Tensor:
    """The mean over all layers on the latent's grid, as DAAM computes it: ``(steps, latents, labels, 16, 16)``."""
    total = sum(layers)
    mean = 0
    for each, count in zip(maps, layers, strict=True):
        flat = each.flatten(0, 1)
        if each.shape[-1] != SIZE:
            flat = F.interpolate(flat, size=(SIZE, SIZE), mode="bicubic", align_corners=False).clamp(min=0)
        mean = mean + flat.unflatten(0, each.shape[:2]) * (count / total)
    return mean


def write(
    output: Path, name: str, maps: list[torch.Tensor], labels: list[str], layers: list[int], affinity=None
) -> str:
    """Write a file below the output folder of a server; returns the name by which Load Attention knows it.

    ``affinity`` is of the first grid, ``(latents, h * w, h * w)``.
    """
    steps = len(maps[0])
    header = {
        "format": 1,
        "prompt": "a cat and a dog",
        "labels": labels,
        "entities": [label if label in PEAKS else "" for label in labels],
        "latent_size": list(maps[0].shape[-2:]),
        "cell": 8,
        "steps": [[2 * step] for step in range(steps)],
        "sigmas": [1.0] * (2 * steps + 1),
        "grids": [
            {"level": level, "layers": [f"layer {level}.{number}" for number in range(count)]}
            for level, count in enumerate(layers)
        ],
    }
    tensors = {f"maps.{level}": each.contiguous() for level, each in enumerate(maps)}
    if affinity is not None:
        tensors["affinity.0"] = affinity.contiguous()
    output.mkdir(parents=True, exist_ok=True)
    save_file(tensors, output / f"{name}{SUFFIX}", metadata={"semantic_binding": json.dumps(header)})
    return f"{name}{SUFFIX} [output]"
