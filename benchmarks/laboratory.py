"""The demo model with the pack around it: makes and judges the images of the binding benchmark."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import comfy.sample
import host
import numpy as np
import torch
from binding_table import Row
from workflow import Workflow
from workflows import WORKFLOWS

LATENT = (4, 16, 16)


@dataclass(frozen=True)
class Sampling:
    """How images are made. Those of other settings, or of another model, are not mixed with them."""

    steps: int
    cfg: float
    sampler: str
    scheduler: str
    model_sha256: str


@dataclass(frozen=True)
class Job:
    """One batch: images of one prompt (by its text). The noise of image i of a set is that of seed i."""

    prompt_set: str
    text: str
    images: tuple[int, ...]


def placed(score: Any, found: Sequence, width: int) -> float:
    """Share of the things asked for whose middle is in their part of the picture: side by side, as in the prompt."""
    parts = len(score.judged)
    inside = [
        outcome.found is not None and index <= sum(found[outcome.found].box[0::2]) / 2 * parts / width < index + 1
        for index, outcome in enumerate(score.judged)
    ]
    return sum(inside) / parts if parts else math.nan


def pooled(latent: torch.Tensor) -> tuple[float, ...]:
    """The means of the sixteen parts of a latent (4, 16, 16), channel by channel: 64 numbers."""
    return tuple(round(value, 3) for value in torch.nn.functional.avg_pool2d(latent.float(), 4).flatten().tolist())


class Laboratory:
    def __init__(self, sampling: Sampling, workflows: Mapping[str, Callable[[Workflow], Workflow]] = WORKFLOWS):
        loaded = host.run_node("SBLoadDemoModel")
        self.model, self.clip, self.vae = loaded["MODEL"], loaded["CLIP"], loaded["VAE"]
        self.negative = self.clip.encode_from_tokens_scheduled(self.clip.tokenize(""))
        self.sampling, self.workflows = sampling, workflows
        prompts = host.part("evaluation.prompts").PROMPT_SETS
        self.wanted = {prompt.text: prompt.wanted for of_set in prompts.values() for prompt in of_set}
        self.wanted_by = host.part("evaluation.wanted").wanted_by
        self.detect = host.part("evaluation.detect").detect
        self.judge = host.part("evaluation.score").judge
        marks = host.part("evaluation.marks")
        self.mark_fates, self.present = marks.mark_fates, marks.PRESENT

    def rows(self, job: Job, names: Sequence[str]) -> Iterator[Row]:
        """The judged images of a job, workflow by workflow."""
        for name in names:
            latents, pictures = self.images(job, name)
            for image, latent, picture in zip(job.images, latents, pictures, strict=True):
                found = self.detect(picture)
                score = self.judge(self.wanted[job.text], found)
                digest = hashlib.sha256(latent.contiguous().numpy().tobytes()).hexdigest()[:16]
                numbers = (score.share_right, score.presence, score.binding, score.leakage)
                more = (placed(score, found, picture.shape[1]), *self._marks(score, found))
                yield Row(
                    job.prompt_set, name, image, job.text, digest, score.verdict, *numbers, *more, pooled=pooled(latent)
                )

    def images(self, job: Job, name: str) -> tuple[torch.Tensor, np.ndarray]:
        """Latents (B, 4, 16, 16) of a job by a workflow, and their pictures (B, H, W, 3) of 0..1."""

        def draft(workflow: Workflow, steps: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
            latents = self._sample(workflow, job.images, steps)
            return latents, torch.from_numpy(self.pictures(latents))

        workflow = self.workflows[name](replace(self.bound(job.text), draft=draft))
        latents = self._sample(workflow, job.images)
        return latents, self.pictures(latents)

    def finished(self, workflow: Workflow, latent: torch.Tensor, seed: int, denoise: float) -> torch.Tensor:
        """The latent (1, 4, 16, 16) of a picture that was noised, and drawn again for this part of the steps."""
        noise = torch.randn(1, *LATENT, generator=torch.Generator().manual_seed(seed))
        how = self.sampling
        return comfy.sample.sample(
            workflow.model, noise, how.steps, how.cfg, how.sampler, how.scheduler, workflow.positive, self.negative,
            latent, denoise=denoise, disable_pbar=True, seed=seed,
        ).cpu()  # fmt: skip

    def pictures(self, latents: torch.Tensor) -> np.ndarray:
        """(B, H, W, 3) of 0..1."""
        return self.vae.decode(latents).float().cpu().numpy()

    def _marks(self, score: Any, found: Sequence) -> tuple[float, float]:
        """Share of the marks asked for that are on some thing, and on their own."""
        fates = self.mark_fates(score, found)
        if not fates:
            return math.nan, math.nan
        return sum(fate in self.present for fate in fates) / len(fates), fates.count("right") / len(fates)

    def bound(self, text: str) -> Workflow:
        """The prompt with its entities as they are meant, so that no parser's mistake is counted.

        Raises:
            RuntimeError: the binding is of something else.
        """
        entities = " | ".join(
            f"{thing.name}: {thing.colour}" + (f", with a {thing.mark}" if thing.mark else "")
            for thing in self.wanted[text]
        )
        bound = host.run_node("SBBindPrompt", clip=self.clip, text=text, entities=entities)
        if self.wanted_by(bound["SEMANTIC_BINDING"]) != self.wanted[text]:
            raise RuntimeError(f"The binding of {text!r} is not what it asks for: {bound['SEMANTIC_BINDING']}")
        return Workflow(self.model, self.clip, bound["CONDITIONING"], bound["SEMANTIC_BINDING"])

    def _sample(self, workflow: Workflow, seeds: Sequence[int], steps: int | None = None) -> torch.Tensor:
        """Latents (B, 4, 16, 16), each from the noise of its own seed, or gone on with; after the first so many
        steps."""
        noise = torch.cat([torch.randn(1, *LATENT, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
        latents, start = workflow.begun or (torch.zeros_like(noise), None)
        return comfy.sample.sample(
            workflow.model,
            noise if workflow.begun is None else torch.zeros_like(noise),
            self.sampling.steps,
            self.sampling.cfg,
            self.sampling.sampler,
            self.sampling.scheduler,
            workflow.positive,
            self.negative,
            latents,
            disable_noise=workflow.begun is not None,
            start_step=start,
            last_step=steps,
            disable_pbar=True,
            seed=seeds[0],
        ).cpu()
