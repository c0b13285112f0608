"""How often the demo model draws what a prompt binds together, with and without the pack's techniques.

    .dev/venv/bin/python benchmarks/binding.py [--sets two_swap ...] [--workflows plain recorder ...] [--images 240]

Every workflow gets the same prompts and the same noise, image by image. Judged images are kept under output/ and not
made again: the command may be interrupted and repeated, or repeated with more sets, workflows and images. The figures
are of the demo model in its world of shapes, never of Stable Diffusion.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict
from datetime import date
from pathlib import Path

import host
from binding_table import compare, markdown, read_rows, write_tables

SETS = ("single_fav", "single_counter", "two_fav", "two_counter", "two_swap")
PROMPTS = 60
"""At most so many different prompts of a set."""

BATCH = 4
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MALLOC_TRIM_THRESHOLD_": "100000000000", "MALLOC_TOP_PAD_": "268435456"}
"""Processes of one thread each do not wait for one another; the C library keeps freed memory for the next step."""


def settings_of(arguments: argparse.Namespace) -> dict:
    """What the images depend on, as the fields of `laboratory.Sampling`."""
    chosen = {name: getattr(arguments, name) for name in ("steps", "cfg", "sampler", "scheduler")}
    return {**chosen, "model_sha256": host.file_digest(host.ROOT / "demo" / "model.safetensors")}


def folder_of(settings: dict) -> Path:
    """Where the judged images of these settings are kept."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]
    return host.ROOT / "output" / "benchmarks" / f"binding-{digest}"


def work(arguments: argparse.Namespace) -> None:
    """Make and judge the images of every `workers`-th job, from the number of this worker on."""
    host.start_comfyui(*([] if arguments.gpu else ["--cpu"]))
    import torch
    from laboratory import Job, Laboratory, Sampling

    draw_prompts = host.part("evaluation.prompts").draw_prompts
    count = {name: len(host.part("evaluation.prompts").PROMPT_SETS[name]) for name in arguments.sets}
    jobs = []
    for name in arguments.sets:
        prompts = draw_prompts(name, min(count[name], PROMPTS))
        for index, prompt in enumerate(prompts):
            mine = range(index, arguments.images, len(prompts))
            jobs += [Job(name, prompt.text, tuple(mine[at : at + BATCH])) for at in range(0, len(mine), BATCH)]
    settings = settings_of(arguments)
    folder = folder_of(settings)
    done = {(row.prompt_set, row.workflow, row.image) for row in read_rows(folder)}
    with torch.inference_mode(), (folder / f"{time.time_ns()}-{arguments.worker}.jsonl").open("w") as file:
        laboratory = Laboratory(Sampling(**settings))
        for job in jobs[arguments.worker :: arguments.workers]:
            left = [
                name for name in arguments.workflows if any((job.prompt_set, name, i) not in done for i in job.images)
            ]
            for row in laboratory.rows(job, left):
                file.write(json.dumps(asdict(row)) + "\n")
            file.flush()


def supervise(arguments: argparse.Namespace, folder: Path) -> float:
    """Run the workers until all images are judged, telling how far they are; images per second."""
    command = [sys.executable, __file__, *sys.argv[1:]]
    environment = {**os.environ, **ONE_THREAD}
    total = len(arguments.sets) * len(arguments.workflows) * arguments.images

    def judged() -> int:
        rows = read_rows(folder)
        return sum(
            r.prompt_set in arguments.sets and r.workflow in arguments.workflows and r.image < arguments.images
            for r in rows
        )

    first, start = judged(), time.monotonic()
    if first == total:
        return float("nan")
    logs = [folder / f"worker-{number}.log" for number in range(arguments.workers)]
    workers = []
    for number, log in enumerate(logs):
        with log.open("w") as file:
            each = [*command, "--worker", str(number)]
            workers.append(subprocess.Popen(each, env=environment, stdout=file, stderr=subprocess.STDOUT))
    try:
        while any(worker.poll() is None for worker in workers):
            time.sleep(5.0)
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS), help="prompt sets")
    parser.add_argument("--workflows", nargs="+", default=["plain", "recorder"], help="names of workflows.py")
    parser.add_argument("--images", type=int, default=240, help="images for each set and workflow")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--cfg", type=float, default=5.0)
    parser.add_argument("--sampler", default="euler")
    parser.add_argument("--scheduler", default="normal")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes of one thread each")
    parser.add_argument("--gpu", action="store_true", help="use the accelerator that ComfyUI finds")
    parser.add_argument("--name", default="binding", help="name of the tables in benchmarks/results")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker is not None:
        work(arguments)
        return
    settings = settings_of(arguments)
    folder = folder_of(settings)
    folder.mkdir(parents=True, exist_ok=True)
    rate = supervise(arguments, folder)
    records = compare(read_rows(folder), arguments.sets, arguments.workflows, arguments.images)
    head = [
        "How often the bundled demo model draws every thing of a prompt in its own colour and nothing else. These are no "
        "figures of Stable Diffusion. Prompts and noise are equal in every workflow; standard errors are over images.",
        "",
        f"Model {settings['model_sha256']}, {settings['sampler']} {settings['scheduler']}, {settings['steps']} steps, "
        f"CFG {settings['cfg']:g}, batch {BATCH}. {host.machine()}. {date.today().isoformat()}.",
    ]
    if rate == rate:
        head[-1] += f" {rate:.2f} images a second in {arguments.workers} processes."
    write_tables(records, head, host.RESULTS / arguments.name)
    print(markdown(records, head))


if __name__ == "__main__":
    main()
