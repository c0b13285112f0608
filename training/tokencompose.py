"""TokenCompose (Wang et al. 2023, arXiv 2312.03626): the noise loss, and the attention of nouns held to their masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from .chance import generator_at, samples_at
from .grounding import losses_of, published_layers, watched_rows
from .loop import LOSS, Losses, Stage
from .lora import Adapters
from .network import Network, Watch
from .noise import noise_loss, noisy
from .prepare import Sample

NOISE, TOKEN, PIXEL, SHARE = "noise loss", "token loss", "pixel loss", "attention within masks"


@dataclass(frozen=True)
class TokenCompose:
    """The task of a training: samples, a digest of what they were made of, and the weights of the token and the pixel
    loss against the noise loss."""

    samples: Sequence[Sample]
    digest: str
    token_weight: float
    pixel_weight: float

    @property
    def identity(self) -> Mapping[str, Any]:
        return {
            "method": "TokenCompose",
            "data": self.digest,
            "token_weight": self.token_weight,
            "pixel_weight": self.pixel_weight,
        }

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        return tuple(self.samples[0].latent.shape)

    def rows(self, batch: int) -> int:
        """How many latents a backward pass has at once."""
        return batch

    def more_memory(self, batch: int, checkpointing: bool) -> float:
        return 0.0

    @property
    def patchers(self) -> Sequence:
        return ()

    def more_adapters(self, unet: torch.nn.Module, settings) -> Sequence[Adapters]:
        return ()

    def stages(self, network: Network, adapters: Adapters, settings) -> Sequence[Stage]:
        layers = published_layers(network.layers)

        def losses(position: int) -> Losses:
            chosen = samples_at(settings.seed, position, settings.batch, len(self.samples))
            samples = [self.samples[each] for each in chosen]
            chances = [generator_at(settings.seed, position * settings.batch + place) for place in range(len(samples))]
            return self.losses(network, adapters, layers, samples, chances)

        return [Stage("", adapters, losses, settings.optimisation)]

    def losses(
        self,
        network: Network,
        adapters: Adapters,
        layers: frozenset,
        samples: Sequence[Sample],
        chances: Sequence[torch.Generator],
    ) -> Losses:
        """Of a batch of samples, each with its own generator: all are means over it. ``layers`` are those whose
        attention is held to the masks."""
        device = network.device
        latent = torch.stack([each.latent for each in samples]).to(device)
        context = torch.stack([each.context for each in samples]).to(device)
        vectors = [each.vector for each in samples if each.vector is not None]
        vector = torch.stack(vectors).to(device) if vectors else None
        times = torch.cat([torch.randint(network.timesteps, (1,), generator=chance) for chance in chances])
        noise = torch.stack([torch.randn(self.latent_shape, generator=chance) for chance in chances]).to(device)
        sigma = network.sigma(times).to(device)
        nouns = [each.nouns for each in samples]
        watch = Watch(layers, watched_rows(nouns)) if self.grounded else None
        output = network.predict(noisy(latent, noise, sigma), sigma, context, vector, adapters, watch)
        of_noise = noise_loss(output, latent, noise, sigma, network.prediction)
        if watch is None:
            return {LOSS: of_noise, NOISE: of_noise}
        found = losses_of(watch.seen, nouns)
        token, pixel = found.token.mean(), found.pixel.mean()
        total = of_noise + self.token_weight * token + self.pixel_weight * pixel
        return {LOSS: total, NOISE: of_noise, TOKEN: token, PIXEL: pixel, SHARE: found.share.nanmean()}

    @property
    def grounded(self) -> bool:
        """Whether attention counts at all."""
        return self.token_weight > 0 or self.pixel_weight > 0
