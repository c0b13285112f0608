"""The loss that diffusion models are trained with (Ho et al. 2020, arXiv 2006.11239, equation 14; v: Salimans and Ho
2022, arXiv 2202.00512), in the terms of ComfyUI: a noisy latent is ``latent + sigma * noise``."""

from __future__ import annotations

import torch

EPS, V = "eps", "v"


def noisy(latent: torch.Tensor, noise: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """``(B, C, h, w)``; ``sigma`` is ``(B,)``."""
    return latent + _broadcast(sigma) * noise


def noise_target(latent: torch.Tensor, noise: torch.Tensor, sigma: torch.Tensor, prediction: str) -> torch.Tensor:
    """What the network is to give for a noisy latent: the noise, or for v-models ``a noise - s latent``, where ``a``
    and ``s`` are the signal's and the noise's share: ``a = 1 / sqrt(sigma^2 + 1)``, ``s = sigma a``."""
    if prediction == EPS:
        return noise
    signal = (_broadcast(sigma) ** 2 + 1).rsqrt()
    return signal * noise - _broadcast(sigma) * signal * latent


def noise_loss(
    output: torch.Tensor, latent: torch.Tensor, noise: torch.Tensor, sigma: torch.Tensor, prediction: str
) -> torch.Tensor:
    """Mean squared error of the network's ``output``; ``()``."""
    return (output - noise_target(latent, noise, sigma, prediction)).square().mean()


def _broadcast(sigma: torch.Tensor) -> torch.Tensor:
    return sigma[:, None, None, None]
