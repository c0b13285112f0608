"""Judged images of the demo model by prompt set and workflow: made by several processes, kept, and not made again."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import date
from pathlib import Path

import host
from binding_table import Row, forget_rows, read_rows
from workflow import Workflow

Workflows = Mapping[str, Callable[[Workflow], Workflow]]

BATCH = 4
"""Images of one prompt, made together. With the number of images the number of prompts grows."""

ONE_THREAD = {"OMP_NUM_THREADS": "1", "MALLOC_TRIM_THRESHOLD_": "100000000000", "MALLOC_TOP_PAD_": "268435456"}
"""Processes of one thread each do not wait for one another; the C library keeps freed memory for the next step."""


SDPA = "--use-pytorch-cross-attention"
"""torch's own attention, which ComfyUI takes on most GPUs: a fifth faster on CPUs too."""


def add_arguments(parser: argparse.ArgumentParser, images: int) -> None:
    """The options of every program that asks for judged images; `images` is the default of their number."""
    parser.add_argument("--images", type=int, default=images, help="images for each prompt set and workflow")
    parser.add_argument("--first", type=int, default=0, help=f"number of the first image, a multiple of {BATCH}")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--cfg", type=float, default=5.0)
    parser.add_argument("--sampler", default="euler")
    parser.add_argument("--scheduler", default="normal")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes of one thread each")
    parser.add_argument("--gpu", action="store_true", help="use the accelerator that ComfyUI finds")
    parser.add_argument("--again", nargs="+", default=[], help="workflows whose kept images are out of date")
    parser.add_argument("--kept", type=Path, default=host.ROOT / "output" / "benchmarks", help="where images are kept")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)


def settings_of(arguments: argparse.Namespace) -> dict:
    """What the images depend on, as the fields of `laboratory.Sampling`."""
    chosen = {name: getattr(arguments, name) for name in ("steps", "cfg", "sampler", "scheduler")}
    return {**chosen, "model_sha256": host.file_digest(host.ROOT / "demo" / "model.safetensors")}


def folder_of(arguments: argparse.Namespace) -> Path:
    """Where the judged images of these settings are kept."""
    digest = hashlib.sha256(json.dumps(settings_of(arguments), sort_keys=True).encode()).hexdigest()[:12]
    return arguments.kept / f"binding-{digest}"


def judged_images(arguments: argparse.Namespace, wanted: Mapping[str, Workflows]) -> tuple[list[Row], float]:
    """Judge the images of prompt sets, each with its workflows.

    Every workflow gets the same prompts and the same noise, image by image. Each worker process runs the whole command
    once more, as far as this call: its sets and workflows must follow from the command line alone.

    Returns:
        All rows that are kept, and how many images were made in a second (nan if none).
    """
    if arguments.worker is not None:
        _work(arguments, wanted)
        sys.exit()
    names = {name: None for workflows in wanted.values() for name in workflows}
    if unknown := set(arguments.again) - names.keys():
        sys.exit(f"--again: there is no workflow {', '.join(sorted(unknown))}. There are: {', '.join(names)}.")
    folder = folder_of(arguments)
    folder.mkdir(parents=True, exist_ok=True)
    forget_rows(folder, arguments.again)
    rate = _supervise(arguments, wanted, folder)
    return read_rows(folder), rate


def conditions(arguments: argparse.Namespace, rate: float) -> str:
    """How and where the images were made, for a result's head."""
    settings = settings_of(arguments)
    text = (
        f"Model {settings['model_sha256']}, {settings['sampler']} {settings['scheduler']}, {settings['steps']} steps, "
        f"CFG {settings['cfg']:g}, batch {BATCH}. {host.machine()}. {date.today().isoformat()}."
    )
    return f"{text} {rate:.2f} images a second in {arguments.workers} processes." if rate == rate else text


def _work(arguments: argparse.Namespace, wanted: Mapping[str, Workflows]) -> None:
    """Make and judge the images of every `workers`-th job, from the number of this worker on; the sets in turn, so that
    an interruption leaves as many images of each. Then, from the end, what the others have not yet come to."""
    host.start_comfyui(SDPA, *([] if arguments.gpu else ["--cpu"]))
    import torch
    from laboratory import Job, Laboratory, Sampling

    draw_prompts = host.part("evaluation.prompts").draw_prompts
    batches = [range(arguments.images)[at : at + BATCH] for at in range(0, arguments.images, BATCH)]
    jobs = [
        Job(name, prompt.text, tuple(images))
        for name in wanted
        for prompt, images in zip(draw_prompts(name, len(batches)), batches, strict=True)
        if images[0] >= arguments.first
    ]
    jobs.sort(key=lambda job: job.images[0])
    own = jobs[arguments.worker :: arguments.workers]
    folder = folder_of(arguments)
    done: set[tuple[str, str, int]] = set()

    def left(job: Job) -> list[str]:
        return [
            name for name in wanted[job.prompt_set] if any((job.prompt_set, name, i) not in done for i in job.images)
        ]

    with torch.inference_mode(), (folder / f"{time.time_ns()}-{arguments.worker}.jsonl").open("w") as file:
        every = {name: make for workflows in wanted.values() for name, make in workflows.items()}
        laboratory = Laboratory(Sampling(**settings_of(arguments)), every)
        for job in [*own, *(job for job in reversed(jobs) if job not in own)]:
            if left(job):
                done.update((row.prompt_set, row.workflow, row.image) for row in read_rows(folder))
            names = left(job)
            for row in laboratory.rows(job, names) if names else ():
                file.write(json.dumps(asdict(row)) + "\n")
            file.flush()


def _supervise(arguments: argparse.Namespace, wanted: Mapping[str, Workflows], folder: Path) -> float:
    """Run the workers until all images are judged, telling how far they are; images per second."""
    images = range(arguments.first, arguments.images)
    total = sum(len(workflows) for workflows in wanted.values()) * len(images)

    def judged() -> int:
        rows = read_rows(folder)
        return sum(r.workflow in wanted.get(r.prompt_set, ()) and r.image in images for r in rows)

    first, start = judged(), time.monotonic()
    if first == total:
        return float("nan")
    logs = [folder / f"worker-{number}.log" for number in range(arguments.workers)]
    workers = []
    for number, log in enumerate(logs):
        with log.open("w") as file:
            command = [sys.executable, *sys.argv, "--worker", str(number)]
            environment = {**os.environ, **ONE_THREAD}
            workers.append(subprocess.Popen(command, env=environment, stdout=file, stderr=subprocess.STDOUT))
    try:
        while running := [worker for worker in workers if worker.poll() is None]:
            with contextlib.suppress(subprocess.TimeoutExpired):
                running[0].wait(5.0)
            done = judged()
            rate = (done - first) / (time.monotonic() - start)
            left = f", {(total - done) / rate / 60:.1f} min left" if rate else ""
            print(f"\r{done} of {total} images judged, {rate:.2f} a second{left}   ", end="", flush=True)
        print()
    finally:
        for worker in workers:
            worker.terminate()
    for worker, log in zip(workers, logs, strict=True):
        if worker.returncode != 0:
            sys.exit(f"A worker failed. The end of {log}:\n{log.read_text()[-3000:]}")
    return (total - first) / (time.monotonic() - start)
