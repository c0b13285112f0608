"""Colours for ComfyUI's latent previews: the linear map from the demo autoencoder's latents to RGB that fits best."""

import numpy as np

from .world import render, sample_scene

PREVIEW_FACTORS = [
    [0.077, 0.108, -0.045],
    [-0.210, 0.014, 0.039],
    [-0.109, -0.104, -0.251],
    [-0.006, -0.235, -0.209],
]
"""Per latent channel its share in red, green and blue of -1..1, as `fit_preview` found it for model.safetensors."""

PREVIEW_BIAS = [0.343, 0.315, 0.278]


def fit_preview(vae, scale: float, scenes: int = 64, seed: int = 0) -> tuple[np.ndarray, np.ndarray, float]:
    """Least squares from the VAE's latents of rendered scenes, times `scale`, to the scenes' RGB in latent-sized cells.

    Returns the factors (4, 3), the bias (3,) and the root of the mean squared error, all for RGB in -1..1.
    """
    import torch

    rng = np.random.default_rng(seed)
    images = torch.from_numpy(np.stack([render(sample_scene(rng)) for _ in range(scenes)]))
    latents = vae.encode(images).float().cpu() * scale
    cells = torch.nn.functional.interpolate(images.movedim(-1, 1), latents.shape[-2:], mode="area") * 2.0 - 1.0
    inputs = latents.movedim(1, -1).reshape(-1, latents.shape[1]).numpy()
    targets = cells.movedim(1, -1).reshape(-1, 3).numpy()
    inputs = np.concatenate([inputs, np.ones((len(inputs), 1), np.float32)], 1)
    solution, *_ = np.linalg.lstsq(inputs, targets, rcond=None)
    error = float(np.sqrt(np.mean((inputs @ solution - targets) ** 2)))
    return solution[:-1], solution[-1], error
