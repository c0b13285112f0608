"""Pictures with gradients from an autoencoder; ComfyUI's own decoding has none and cuts off what is beyond 0..1."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from comfy.ldm.modules.diffusionmodules.model import AttnBlock, ResnetBlock
from comfy.taesd.taesd import Block
from torch.utils.checkpoint import checkpoint

from ...attention.engine.gradient import differentiable

NUMBERS_OF_A_PIXEL = 6200
"""That a backward pass through the decoder of Stable Diffusion's autoencoder needs: 5700 are kept in the forward pass
(measured), and gradients come on top. Smaller autoencoders need fewer."""
WITH_CHECKPOINTS = 3400
"""The same where blocks are computed again: 1700 are kept, and 1200 are within the largest block (measured)."""


@dataclass(frozen=True, eq=False)
class Decoder:
    """The decoder of a VAE.

    Args:
        patcher: a ComfyUI ModelPatcher whose weights stay in one place.
        dtype: what it computes in.
        scale: how many pixels of a side a cell of a latent becomes.
    """

    patcher: Any
    dtype: torch.dtype
    scale: int

    def memory(self, shape: Sequence[int], checkpointing: bool) -> float:
        """Bytes that a backward pass needs for the picture of a latent ``(C, h, w)``, beside the weights."""
        numbers = WITH_CHECKPOINTS if checkpointing else NUMBERS_OF_A_PIXEL
        return float(self.dtype.itemsize * numbers * shape[-2] * shape[-1] * self.scale**2)

    def pictures(self, latents: torch.Tensor, checkpointing: bool = False) -> torch.Tensor:
        """``(B, H, W, 3)`` in float32, black at 0 and white at 1 and not cut off there, with gradients to the latents.

        To be called when the patcher's model is on its device.

        Args:
            latents: ``(B, C, h, w)`` as the autoencoder gives them, not scaled for a sampler.
            checkpointing: compute each block a second time in the backward pass.
        """
        module = self.patcher.model
        with differentiable(module), _checkpointed(module) if checkpointing else nullcontext():
            decoded = module.decode(latents.to(self.patcher.load_device, self.dtype))
            return (decoded.float() / 2 + 0.5).movedim(1, -1)


def decoder_of(vae, channels: int) -> Decoder:
    """Of a VAE for latents of so many channels.

    Raises:
        ValueError: there is none, or it is made for other latents.
    """
    if vae is None or vae.first_stage_model is None:
        raise ValueError("There is no VAE: the checkpoint has none. Load one and connect it.")
    if vae.latent_dim != 2 or vae.latent_channels != channels:
        raise ValueError(
            f"This VAE is made for latents of {vae.latent_channels} channels, and the model's have {channels}. Connect "
            "the VAE that belongs to the model."
        )
    return Decoder(vae.patcher.clone(disable_dynamic=True), vae.vae_dtype, vae.spacial_compression_decode())


@contextmanager
def _checkpointed(module: torch.nn.Module) -> Iterator[None]:
    blocks = [each for each in module.modules() if isinstance(each, (ResnetBlock, AttnBlock, Block))]
    try:
        for block in blocks:
            block.forward = _again(block, block.forward)
        yield
    finally:
        for block in blocks:
            del block.forward


def _again(block: torch.nn.Module, forward: Callable) -> Callable:
    """The forward of a block that is computed again in the backward pass, there too with ordinary tensors."""

    def compute(*args, **kwargs):
        return checkpoint(
            forward,
            *args,
            use_reentrant=False,
            preserve_rng_state=False,
            context_fn=lambda: (nullcontext(), differentiable(block)),
            **kwargs,
        )

    return compute
