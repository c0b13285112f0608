"""What the speed benchmarks sample, and how long a run of it takes, step by step."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import host
import numpy as np
from workflow import Workflow

PROMPT = "a photo of a black cat wearing sunglasses and a white dog"
ENTITIES = "cat: black, wearing sunglasses | dog: white"
SCHEDULER, CFG = "normal", 7.5


@dataclass(frozen=True)
class Timing:
    """One run, step by step: seconds by the clock, and of processor time over all threads; the latents (B, C, H, W).

    The first step has all that is neither in this step nor in another.
    """

    wall: tuple[float, ...]
    processor: tuple[float, ...]
    latent: np.ndarray


class Subject:
    """What is sampled: a model, a bound prompt and an empty one, and latents to start from.

    `model` is "demo"; "tiny", the tests' model in the layout of SDXL; or "sd15" or "sdxl" with random weights and
    latents of that many `cells` a side."""

    def __init__(self, model: str, batch: int = 1, cells: int = 64):
        import torch

        loaded = host.run_node("SBLoadDemoModel")
        patcher, clip, latent = loaded["MODEL"], loaded["CLIP"], (4, 16, 16)
        if model == "tiny":
            patcher, clip = _tiny()
        elif model != "demo":
            from random_unet import RandomText, random_unet

            patcher, clip, latent = random_unet(model, torch.bfloat16), RandomText(clip, model), (4, cells, cells)
        bound = host.run_node("SBBindPrompt", clip=clip, text=PROMPT, entities=ENTITIES)
        self.plain = Workflow(patcher, clip, bound["CONDITIONING"], bound["SEMANTIC_BINDING"])
        self.negative = clip.encode_from_tokens_scheduled(clip.tokenize(""))
        self.noise = torch.randn(batch, *latent, generator=torch.Generator().manual_seed(0))

    def sigmas(self, steps: int):
        """The noise levels ``(steps + 1,)`` of a run."""
        import comfy.samplers

        return comfy.samplers.calculate_sigmas(self.plain.model.get_model_object("model_sampling"), SCHEDULER, steps)

    def sample(self, workflow: Workflow, steps: int, callback: Callable | None = None):
        """The latent (B, C, H, W) of a run."""
        import comfy.sample
        import torch

        return comfy.sample.sample(
            workflow.model,
            self.noise,
            steps,
            CFG,
            "euler",
            SCHEDULER,
            workflow.positive,
            self.negative,
            torch.zeros_like(self.noise),
            disable_pbar=True,
            seed=0,
            callback=callback,
        )

    def run(self, workflow: Workflow, steps: int) -> Timing:
        import torch

        clocks = []

        def look_at_clocks(*_) -> None:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            clocks.append((time.perf_counter(), time.process_time()))

        look_at_clocks()
        latent = self.sample(workflow, steps, look_at_clocks).float().cpu().numpy()
        look_at_clocks()
        seconds = np.diff(clocks, axis=0)
        seconds[0] += seconds[-1]
        wall, processor = seconds[:-1].T.tolist()
        return Timing(tuple(wall), tuple(processor), latent)


def _tiny() -> tuple:
    """MODEL and CLIP of the tests' smallest SDXL."""
    from comfy.sd import load_checkpoint_guess_config

    models = host.helper("tiny_models")
    models.register()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tiny.safetensors"
        models.write_checkpoint("sdxl", path)
        return load_checkpoint_guess_config(str(path), output_vae=False)[:2]


def peak_memory(work: Callable[[], object]) -> float:
    """The most MiB of tensors that some work holds at a time, beyond what there was before it."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as profiler:
        work()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = np.cumsum([event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())])
    return float(held.max()) / 2**20
