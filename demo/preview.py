"""Colours for ComfyUI's latent previews: the linear map from the demo autoencoder's latents to RGB that fits best."""

import numpy as np

from ..world.scenes import render, sample_scene

PREVIEW_FACTORS = [
    [0.055, 0.122, -0.135],
    [-0.327, -0.008, 0.088],
    [-0.056, -0.015, -0.191],
    [0.067, -0.205, -0.128],
]
"""Per latent channel its share in red, green and blue of -1..1, as `fit_preview` found it for model.safetensors."""

PREVIEW_BIAS = [0.305, 0.195, 0.301]

COLOURED = 0.2
COLOUR_WEIGHT = 11.0
"""Cells with more chroma than this count for so many grey ones, because most of a picture is ground."""


def fit_preview(vae, scale: float, scenes: int = 64, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Weighted least squares from latents of rendered scenes, times `scale`, to the scenes' RGB in latent-sized cells.

    Returns the factors (4, 3) and the bias (3,), for RGB in -1..1.
    """
    rng = np.random.default_rng(seed)
    latents, cells = encoded_scenes(vae, rng, scenes)
    inputs = latents.reshape(-1, latents.shape[-1]) * scale
    inputs = np.concatenate([inputs, np.ones_like(inputs[:, :1])], 1)
    targets = cells.reshape(-1, 3)
    weights = np.where(chroma(targets) > COLOURED, COLOUR_WEIGHT, 1.0)[:, None] ** 0.5
    solution, *_ = np.linalg.lstsq(inputs * weights, targets * weights, rcond=None)
    return solution[:-1], solution[-1]


def encoded_scenes(vae, rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Latents (N, h, w, 4) of scenes, and the scenes' mean RGB (N, h, w, 3) of -1..1 in each latent cell."""
    import torch

    images = torch.from_numpy(np.stack([render(sample_scene(rng)) for _ in range(count)]))
    latents = vae.encode(images).float().cpu().movedim(1, -1).numpy()
    rows, columns = latents.shape[1:3]
    cells = images.reshape(count, rows, images.shape[1] // rows, columns, images.shape[2] // columns, 3).mean((2, 4))
    return latents, cells.numpy() * 2.0 - 1.0


def chroma(rgb: np.ndarray) -> np.ndarray:
    """Difference of the largest and smallest of RGB of -1..1 along the last axis, in 0..1."""
    return (rgb.max(-1) - rgb.min(-1)) / 2.0
