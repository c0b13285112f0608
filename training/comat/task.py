"""CoMat (Jiang et al. 2024, arXiv 2404.03653): a model that learns from what is seen in the pictures it draws.

A step has two stages. The first draws a picture of each prompt with gradients and trains the LoRA by what a captioner,
a discriminator and the attention to nouns and attributes say of it; the second trains the discriminator by the same
pictures and those of the untrained model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import torch

from ..chance import generator_at, samples_at
from ..files import checkpoint_path
from ..grounding import Grounding, Nouns, columns_of, published_layers, watched_rows
from ..identity import weights_digest
from ..loop import LOSS, Losses, Optimisation, Stage
from ..lora import Adapters
from ..network import Network, Seen
from .captioner import Captioner
from .decoding import Decoder
from .discriminator import Discriminator
from .finding import BySegmenter, Finder, attention_maps
from .losses import (
    Weights,
    attribute_losses,
    discriminator_loss,
    generator_loss,
    randomly_cropped,
    total,
)
from .reading import Prompt, Prompts
from .rollout import Guided, Rolled, ddpm_sigmas, rollout, steps_captured, steps_with_gradient
from .untrained import Drawing, latents_of_untrained, number_for, stacked

CONCEPT, FIDELITY, TOKEN, PIXEL = "concept loss", "fidelity loss", "token loss", "pixel loss"
SHARE = "attention within masks"
DISCRIMINATOR = "discriminator"
FINDING = 2 * 2**30
"""Bytes for detector and Segment Anything, which compute in turn: ComfyUI keeps 1.2 GiB free for either."""


@dataclass(frozen=True)
class Rollouts:
    """How pictures are drawn in training: ``steps`` of DDPM, guided by ``scale``; ``gradient_steps`` of them keep their
    graph, and at ``captured_steps`` draws of those attention is looked at; ``detached`` as in ``rollout``. These are
    the published run's for SD1.5; for SDXL it is detached."""

    steps: int = 50
    scale: float = 7.5
    gradient_steps: int = 5
    captured_steps: int = 2
    detached: bool = False


@dataclass(frozen=True)
class Fidelity:
    """The discriminator's learning rate, and how many ``pictures`` of the untrained model it sees. Published: 2e-5 for
    SD1.5, 5e-5 for SDXL, and one picture of each prompt."""

    rate: float
    pictures: int

    def optimisation(self, of_generator: Optimisation) -> Optimisation:
        """AdamW as published, on the LoRA's schedule."""
        return replace(of_generator, rate=self.rate, betas=(0.0, of_generator.betas[1]), clip=1.0)


class Drawn(NamedTuple):
    """The latents of a micro batch, and of the untrained model one each, of the same prompts; both ``(B, C, h, w)``."""

    trained: torch.Tensor
    untrained: torch.Tensor


@dataclass(frozen=True, eq=False)
class CoMat:
    """The task of a training.

    Args:
        prompts: what is drawn, encoded; and the empty prompt, which guidance takes for the negative one.
        latent_shape: ``(C, h, w)`` of the pictures.
        decoder: makes pictures of latents.
        captioner: for concept matching; None to leave it out.
        finder: for attribute concentration; None to leave it out.
        fidelity: None to leave it out.
        weights: of the losses; one of 0 leaves its part out as well.
        digest: tells the encoders and what else is given here that the result depends on.
        drawing: is told how many of how many pictures the untrained model has drawn.

    Raises:
        ValueError: all parts are off, or steps with gradients are more than there are.
    """

    prompts: Prompts
    latent_shape: tuple[int, int, int]
    decoder: Decoder
    captioner: Captioner | None
    finder: Finder | None
    fidelity: Fidelity | None
    weights: Weights
    rollouts: Rollouts
    digest: str
    drawing: Callable[[int, int], None] = lambda done, count: None

    def __post_init__(self):
        steps_with_gradient(self.rollouts.steps, self.rollouts.gradient_steps, torch.Generator())
        if not (self.matching or self.concentrating or self.faithful):
            unasked = self.finder is not None and not any(each.asked for each in self.prompts.prompts)
            why = "; in no prompt is there a noun with an attribute to hold attention to" if unasked else ""
            raise ValueError(
                f"All parts of CoMat are off, so there is nothing to train by{why}. Connect a captioner, choose how "
                "masks are found, or switch fidelity on, with weights above 0."
            )

    @property
    def matching(self) -> bool:
        """Whether the captioner is asked."""
        return self.captioner is not None and self.weights.concept > 0

    @property
    def concentrating(self) -> bool:
        """Whether attention is held to masks."""
        weighted = self.weights.token > 0 or self.weights.pixel > 0
        return self.finder is not None and weighted and any(each.asked for each in self.prompts.prompts)

    @property
    def faithful(self) -> bool:
        """Whether there is a discriminator."""
        return self.fidelity is not None and self.weights.fidelity > 0

    @property
    def identity(self) -> Mapping[str, Any]:
        captioner = self.matching and weights_digest(self.captioner.patcher)
        return {
            "method": "CoMat",
            "prompts": self.prompts.digest,
            "latent": list(self.latent_shape),
            "captioner": captioner or None,
            "masks": self.concentrating,
            "fidelity": asdict(self.fidelity) if self.faithful else None,
            "weights": asdict(self.weights),
            "rollouts": asdict(self.rollouts),
            "data": self.digest,
        }

    def rows(self, batch: int) -> int:
        """How many latents a backward pass has at once: each of its steps has both prompts of guidance."""
        return batch * (2 * self.rollouts.gradient_steps + self.faithful)

    def more_memory(self, batch: int, checkpointing: bool) -> float:
        pictures = 0.0
        if self.matching:
            pictures = batch * self.decoder.memory(self.latent_shape, checkpointing) + self.captioner.memory(batch)
        return pictures + (FINDING if self._finding else 0.0)

    @property
    def patchers(self) -> Sequence:
        """ComfyUI's ModelPatchers of what a step needs beside the UNet. All are on the device before it begins: one
        that came later could push out weights of which gradients are still to be taken."""
        decoder = [self.decoder.patcher] if self.matching or self.concentrating else []
        return [*decoder, *([self.captioner.patcher] if self.matching else []), *self._finding]

    @property
    def _finding(self) -> Sequence:
        """Those of the networks that find entities."""
        if not (self.concentrating and isinstance(self.finder, BySegmenter)):
            return []
        return [self.finder.detector.patcher, self.finder.segmenter.patcher]

    def more_adapters(self, unet: torch.nn.Module, settings) -> Sequence[Adapters]:
        """The discriminator's, of the LoRA's sizes as published."""
        return [Adapters(unet, settings.lora, settings.seed + 1)] if self.faithful else []

    def stages(self, network: Network, adapters: Adapters, settings) -> Sequence[Stage]:
        discriminator = untrained = None
        drawn: dict[int, Drawn] = {}
        if self.faithful:
            discriminator = self._discriminator(network, settings.seed)
            untrained = self._untrained(network, settings)

        def of_generator(position: int) -> Losses:
            chance = generator_at(settings.seed, position)
            places = samples_at(settings.seed, position, settings.batch, len(self.prompts.prompts))
            prompts = [self.prompts.prompts[place] for place in places]
            losses, latent = self.losses(network, adapters, discriminator, prompts, chance, settings.checkpointing)
            if untrained is not None:
                own = [number_for(place, len(self.prompts.prompts), len(untrained), chance) for place in places]
                drawn[position] = Drawn(latent.detach(), untrained[own].to(latent))
            return losses

        def of_discriminator(position: int) -> Losses:
            latents = drawn.pop(position)
            return {LOSS: discriminator_loss(*discriminator(torch.cat(latents)).chunk(2))}

        stages = [Stage("", adapters, of_generator, settings.optimisation)]
        if discriminator is not None:
            optimisation = self.fidelity.optimisation(settings.optimisation)
            stages.append(Stage(DISCRIMINATOR, discriminator, of_discriminator, optimisation))
        return stages

    def losses(
        self,
        network: Network,
        adapters: Adapters,
        discriminator: Discriminator | None,
        prompts: Sequence[Prompt],
        chance: torch.Generator,
        checkpointing: bool,
    ) -> tuple[Losses, torch.Tensor]:
        """By which the LoRA is trained, means over a batch of prompts; and the latents ``(B, C, h, w)`` drawn."""
        rolled = self._rolled(network, adapters, prompts, chance)
        latent, found = rolled.latent, {}
        if self.matching or self.concentrating:
            with torch.set_grad_enabled(self.matching):
                pictures = self.decoder.pictures(network.base.process_latent_out(latent), checkpointing)
        if self.matching:
            seen = randomly_cropped(pictures, chance)
            found[CONCEPT] = self.captioner.negative_log_likelihood(seen, [each.text for each in prompts]).mean()
        if discriminator is not None:
            found[FIDELITY] = generator_loss(discriminator(latent))
        if self.concentrating:
            held = self._attributes(rolled, prompts, pictures)
            found |= {TOKEN: held.token.mean(), PIXEL: held.pixel.mean()}
        loss = total(self.weights, *(found.get(name) for name in (CONCEPT, FIDELITY, TOKEN, PIXEL)))
        if not (self.matching or self.faithful):
            # Attention does not depend on all adapters, and on none where nothing is asked or found; but each is to
            # have a gradient, as the optimiser and DistributedDataParallel want it.
            loss = loss + 0.0 * latent.mean()
        share = {SHARE: held.share.nanmean()} if self.concentrating else {}
        return {LOSS: loss, **found, **share}, latent

    def _rolled(
        self, network: Network, adapters: Adapters, prompts: Sequence[Prompt], chance: torch.Generator
    ) -> Rolled:
        chosen, device = self.rollouts, network.device
        noise = torch.randn(len(prompts), *self.latent_shape, generator=chance).to(device)
        with_gradient = steps_with_gradient(chosen.steps, chosen.gradient_steps, chance)
        captured = steps_captured(with_gradient, chosen.captured_steps, chance) if self.concentrating else ()
        rows = watched_rows([_nouns(each) for each in prompts])
        layers = published_layers(network.layers)
        positive, negative = stacked(prompts, device), stacked([self.prompts.empty] * len(prompts), device)
        guided = Guided(network, positive, negative, chosen.scale, adapters, layers, rows)
        sigmas = ddpm_sigmas(network.sampling, chosen.steps).clone()
        return rollout(guided, network.denoised, sigmas, noise, chance, with_gradient, captured, chosen.detached)

    def _attributes(self, rolled: Rolled, prompts: Sequence[Prompt], pictures: torch.Tensor) -> Grounding:
        seen = [each for of_step in rolled.captured.values() for each in of_step]
        nouns = [self._found(place, prompt, seen, pictures) for place, prompt in enumerate(prompts)]
        return attribute_losses(rolled.captured.values(), nouns)

    def _found(self, place: int, prompt: Prompt, seen: Sequence[Seen], pictures: torch.Tensor) -> Nouns:
        """What is asked of the picture at a place, with masks. As in the published code, a picture in which nothing is
        found at all is left out."""
        nouns = _nouns(prompt)
        if not nouns.rows:
            return nouns
        entities = [each.entity for each in prompt.asked]
        maps = attention_maps(seen, place, columns_of(nouns))
        masks = self.finder.find(pictures[place : place + 1].detach(), entities, maps)[0]
        return replace(nouns, masks=masks) if masks.any() else Nouns((), masks[:0])

    def _discriminator(self, network: Network, seed: int) -> Discriminator:
        empty = stacked([self.prompts.empty], network.device)
        last = ddpm_sigmas(network.sampling, self.rollouts.steps)[-2]
        made = Discriminator(
            network, network.adapters[-1], empty.context, last, self.latent_shape[0], seed, empty.vector
        )
        return made.to(network.device)

    def _untrained(self, network: Network, settings) -> torch.Tensor:
        rollouts = self.rollouts
        drawing = Drawing(self.latent_shape, rollouts.steps, rollouts.scale, settings.batch, settings.seed)
        folder = checkpoint_path(settings.name).parent
        return latents_of_untrained(network, *self.prompts[:2], self.fidelity.pictures, drawing, folder, self.drawing)


def _nouns(prompt: Prompt) -> Nouns:
    """What is asked of a prompt, of which no masks are known yet."""
    return Nouns(tuple(each.rows for each in prompt.asked), torch.zeros(0))
