"""CoMat's discriminator (Jiang et al. 2024, arXiv 2404.03653): tells latents the trained model drew from those of the
untrained one.

It is the untrained UNet with adapters of its own and a linear layer on its output, so that it judges every patch of a
latent by itself. As in the published code it gets the finished latent as the network's input at the sampler's last
timestep, and the empty prompt. For SDXL the published script takes SD1.5's UNet; here it is always the model's own.
"""

from __future__ import annotations

import torch
from torch import nn

from ..lora import Adapters
from ..network import Network


class Discriminator(nn.Module):
    """Its parameters are those of the adapters and of the linear layer.

    Args:
        network: the model whose UNet it is; knows ``adapters``.
        context: the empty prompt, ``(1, T, D)``.
        sigma: noise level of the sampler's last timestep.
        channels: of a latent.
        vector: that of the empty prompt ``(1, Y)``, of models that have one (SDXL).
        seed: of the linear layer's first weights.
    """

    def __init__(
        self,
        network: Network,
        adapters: Adapters,
        context: torch.Tensor,
        sigma: float,
        channels: int,
        seed: int,
        vector: torch.Tensor | None = None,
    ):
        super().__init__()
        self.network, self.adapters, self.sigma = network, adapters, float(sigma)
        self.context, self.vector = context, vector
        self.head = nn.utils.skip_init(nn.Linear, channels, 1)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for weight in self.head.parameters():
                weight.uniform_(-(channels**-0.5), channels**-0.5, generator=generator)

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        """``(B, h, w)``: for each patch of latents ``(B, C, h, w)``, scaled as a sampler has them, how much it looks
        like the untrained model's, as the logit of a probability."""
        levels = latents.new_full((len(latents),), self.sigma)
        # The network divides a noisy latent by this; the published code gives it the latent itself.
        given = latents * (1 + self.sigma**2) ** 0.5
        vector = self.vector if self.vector is None else self.vector.expand(len(latents), -1)
        context = self.context.expand(len(latents), -1, -1)
        output = self.network.predict(given, levels, context, vector, self.adapters)
        return self.head(output.movedim(1, -1)).squeeze(-1)
