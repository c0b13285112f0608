"""Noise schedule, loss weights and a sampler: Stable Diffusion 1's noise prediction in the parametrisation by sigma."""

import torch

from .architecture import BETA_END, BETA_START, LATENT_CHANNELS, LATENT_SIZE, TRAIN_TIMESTEPS

MIN_SNR = 5.0
HIGH_NOISE_BOOST = 4.0


def attention(func, q, k, v, heads, mask=None, **kwargs):
    """Attention by plain matrix products, for `optimized_attention_override`: the fused one's backward is slow on CPUs.

    q (B, N, C), k and v (B, T, C) to (B, N, C); `func` is the attention that would have run.
    """
    batch, queries, channels = q.shape
    width = channels // heads
    q, k, v = (x.view(batch, -1, heads, width).transpose(1, 2).reshape(batch * heads, -1, width) for x in (q, k, v))
    weights = torch.softmax(torch.bmm(q * width**-0.5, k.transpose(1, 2)), dim=-1)
    attended = torch.bmm(weights.to(v.dtype), v).view(batch, heads, queries, width)
    return attended.transpose(1, 2).reshape(batch, queries, channels)


def predict_noise(
    unet: torch.nn.Module, x: torch.Tensor, timesteps: torch.Tensor, context: torch.Tensor
) -> torch.Tensor:
    """Predicted noise (B, 4, H, W) for noisy latents of variance 1, timesteps (B,) in 0..999, context (B, T, D)."""
    return unet(x, timesteps, context=context, transformer_options={"optimized_attention_override": attention}).float()


def alphas_cumulative() -> torch.Tensor:
    """Share of the signal's variance at each of the training timesteps, (1000,)."""
    betas = torch.linspace(BETA_START**0.5, BETA_END**0.5, TRAIN_TIMESTEPS, dtype=torch.float64).square()
    return torch.cumprod(1.0 - betas, 0).float()


def loss_weights(alphas: torch.Tensor) -> torch.Tensor:
    """Weights (1000,) of the squared noise error: Min-SNR (Hang et al. 2023, https://arxiv.org/abs/2303.09556), times a
    boost of high noise, where it is decided which thing gets which colour."""
    snr = alphas / (1.0 - alphas)
    return snr.clamp(max=MIN_SNR) / snr * snr.rsqrt().clamp(1.0, HIGH_NOISE_BOOST)


def spread_timesteps(count: int, generator: torch.Generator | None = None) -> torch.Tensor:
    """Timesteps (count,) at even distances from a random start: uniform each, and with less variance together."""
    uniform = (torch.rand((), generator=generator) + torch.arange(count) / count) % 1.0
    return (uniform[torch.randperm(count, generator=generator)] * TRAIN_TIMESTEPS).long().clamp(max=TRAIN_TIMESTEPS - 1)


def noised(
    clean: torch.Tensor, timesteps: torch.Tensor, alphas: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Latents (B, 4, H, W) with noise of variance 1, the noise, and the signal's share of the variance (B, 1, 1, 1)."""
    noise = torch.randn_like(clean)
    signal = alphas[timesteps].view(-1, 1, 1, 1)
    return signal.sqrt() * clean + (1.0 - signal).sqrt() * noise, noise, signal


@torch.no_grad()
def sample(
    unet: torch.nn.Module,
    context: torch.Tensor,
    unconditional: torch.Tensor,
    seeds: list[int],
    steps: int = 20,
    scale: float = 5.0,
) -> torch.Tensor:
    """Latents (B, 4, 16, 16) by Euler steps with guidance: ComfyUI's `euler`, `normal`, timesteps not rounded.

    `context` is (B, T, D), `unconditional` (1, T, D); each seed gives one picture's noise, the same on every device.
    """
    alphas = alphas_cumulative()
    timesteps = torch.linspace(TRAIN_TIMESTEPS - 1, 0, steps)
    log_sigmas = ((1.0 - alphas) / alphas).sqrt().log()
    low = timesteps.floor().long()
    part = timesteps - low
    sigmas = ((1.0 - part) * log_sigmas[low] + part * log_sigmas[timesteps.ceil().long()]).exp()
    sigmas = torch.cat([sigmas, torch.zeros(1)])
    shape = (1, LATENT_CHANNELS, LATENT_SIZE, LATENT_SIZE)
    x = torch.cat([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
    x = x.to(context.device) * (1.0 + sigmas[0] ** 2).sqrt()
    both = torch.cat([context, unconditional.expand(len(context), -1, -1)])
    for timestep, sigma, following in zip(timesteps, sigmas, sigmas[1:], strict=False):
        scaled = x / (sigma**2 + 1.0).sqrt()
        noise, noise_unconditional = predict_noise(
            unet, torch.cat([scaled, scaled]), timestep.expand(2 * len(x)).to(x.device), both
        ).chunk(2)
        x = x + (following - sigma) * (noise_unconditional + scale * (noise - noise_unconditional))
    return x
