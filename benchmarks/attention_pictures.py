"""Judged pictures with the attention they were drawn by: made by several processes, kept, and not made again."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import host
from judging import ONE_THREAD, SDPA
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
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes of one thread each")
    parser.add_argument(
        "--kept", type=Path, default=host.ROOT / "output" / "benchmarks", help="where pictures are kept"
    )
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)


def model_digest() -> str:
    return host.file_digest(host.ROOT / "demo" / "model.safetensors")


def recorded_pictures(arguments: argparse.Namespace, sets: Sequence[str]) -> list[Group]:
    """The pictures of the first prompts of some sets. Each worker process runs the whole command once more, as far as
    this call. What is kept takes about 0.15 MB a picture."""
    folder = arguments.kept / f"attention-{model_digest()}"
    jobs = {(name, number): folder / f"{name}-{number}.pt" for number in range(arguments.prompts) for name in sets}
    if arguments.worker is not None:
        _work(dict(list(jobs.items())[arguments.worker :: arguments.workers]))
        sys.exit()
    folder.mkdir(parents=True, exist_ok=True)
    if not all(path.exists() for path in jobs.values()):
        command, environment = [sys.executable, *sys.argv, "--worker"], {**os.environ, **ONE_THREAD}
        workers = [subprocess.Popen([*command, str(number)], env=environment) for number in range(arguments.workers)]
        if any([worker.wait() for worker in workers]):
            sys.exit("A worker failed.")
    import torch

    host.part("attention.maps.recording"), host.part("parsing.binding")
    return [Group(**torch.load(path, weights_only=False)) for path in jobs.values()]


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
            if not path.exists():
                group = _drawn(laboratory, watch, name, number, draw_prompts(name, number + 1)[number].text)
                unfinished = path.with_suffix(f".{os.getpid()}")
                torch.save(vars(group), unfinished)
                unfinished.rename(path)
                print(path.stem, flush=True)


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
