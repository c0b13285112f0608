"""Judged pictures with the attention they were drawn by: made by several processes, kept, and not made again."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import host
import kept_files
from judging import SDPA
from workflow import Workflow

GROUP = 8
"""Pictures of one prompt, made together."""
SAMPLING = {"steps": 20, "cfg": 5.0, "sampler": "euler", "scheduler": "normal"}
NOUNS, ALL_WORDS = "nouns", "all words"
RECORDED = {NOUNS: "entities and attributes", ALL_WORDS: "entities"}
"""Whose attention an entity's map is, and how Record Attention is told so."""
KEEP_EVERY = 2


@dataclass(frozen=True)
class Group:
    """The pictures of one prompt: their verdicts, what share of the things is there, what share of these is bound
    rightly, and the recordings of their attention, for NOUNS and ALL_WORDS."""

    prompt_set: str
    number: int
    binding: Any
    verdicts: tuple[str, ...]
    presence: tuple[float, ...]
    bound: tuple[float, ...]
    recordings: dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--prompts", type=int, default=32, help=f"prompts of each set, {GROUP} pictures of each")
    kept_files.add_arguments(parser)


def model_digest() -> str:
    return host.file_digest(host.ROOT / "demo" / "model.safetensors")


def recorded_pictures(arguments: argparse.Namespace, sets: Sequence[str]) -> list[Group]:
    """The pictures of the first prompts of some sets. What is kept takes about 0.15 MB a picture."""
    folder = arguments.kept / f"attention-{model_digest()}"
    jobs = {(name, number): folder / f"{name}-{number}.pt" for number in range(arguments.prompts) for name in sets}
    paths = kept_files.made(arguments, jobs, _work)
    import torch

    host.part("attention.maps.recording"), host.part("parsing.binding")
    return [Group(**torch.load(path, weights_only=False)) for path in paths]


class Watch:
    """A workflow in which attention is recorded; ``maps`` are the handles of the last one, by the names of RECORDED."""

    def __init__(self):
        self.maps: dict[str, Any] = {}

    def __call__(self, workflow: Workflow) -> Workflow:
        options = {"resolution": "all", "aggregation": "keep steps", "keep_every": KEEP_EVERY}
        for name, record in RECORDED.items():
            inputs = {"model": workflow.model, "binding": workflow.binding, "record": record, **options}
            recorded = host.run_node("SBRecordAttention", **inputs)
            workflow, self.maps[name] = replace(workflow, model=recorded["MODEL"]), recorded["ATTENTION_MAPS"]
        return workflow


def _work(jobs: dict[tuple[str, int], Path]) -> None:
    host.start_comfyui("--cpu", SDPA)
    import torch
    from laboratory import Laboratory, Sampling

    draw_prompts, watch = host.part("evaluation.prompts").draw_prompts, Watch()
    with torch.inference_mode():
        laboratory = Laboratory(Sampling(**SAMPLING, model_sha256=model_digest()), {"watched": watch})
        for (name, number), path in jobs.items():
            group = _drawn(laboratory, watch, name, number, draw_prompts(name, number + 1)[number].text)
            kept_files.kept(path, partial(torch.save, vars(group)))


def _drawn(laboratory: Any, watch: Watch, prompt_set: str, number: int, text: str) -> Group:
    """The group of a prompt; the noise of each of its pictures is that of its own seed."""
    from laboratory import Job

    seeds = tuple(range(number * GROUP, (number + 1) * GROUP))
    latents, pictures = laboratory.images(Job(prompt_set, text, seeds), "watched")
    scores = [laboratory.judge(laboratory.wanted[text], laboratory.detect(picture)) for picture in pictures]
    return Group(
        prompt_set=prompt_set,
        number=number,
        binding=replace(laboratory.bound(text).binding, encoded=None),
        verdicts=tuple(score.verdict for score in scores),
        presence=tuple(score.presence for score in scores),
        bound=tuple(score.binding for score in scores),
        recordings={name: maps.find({"samples": latents}) for name, maps in watch.maps.items()},
    )
