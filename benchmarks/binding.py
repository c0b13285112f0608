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
from binding_table import compare, forget_rows, markdown, read_rows, write_tables
from workflows import WORKFLOWS

SETS = ("single_fav", "single_counter", "two_fav", "two_counter", "two_swap")
BATCH = 4
"""Images of one prompt, made together. With the number of images the number of prompts grows."""

ONE_THREAD = {"OMP_NUM_THREADS": "1", "MALLOC_TRIM_THRESHOLD_": "100000000000", "MALLOC_TOP_PAD_": "268435456"}
"""Processes of one thread each do not wait for one another; the C library keeps freed memory for the next step."""


def settings_of(arguments: argparse.Namespace) -> dict:
    """What the images depend on, as the fields of `laboratory.Sampling`."""
    chosen = {name: getattr(arguments, name) for name in ("steps", "cfg", "sampler", "scheduler")}
    return {**chosen, "model_sha256": host.file_digest(host.ROOT / "demo" / "model.safetensors")}


def folder_of(arguments: argparse.Namespace) -> Path:
    """Where the judged images of these settings are kept."""
    digest = hashlib.sha256(json.dumps(settings_of(arguments), sort_keys=True).encode()).hexdigest()[:12]
    return arguments.kept / f"binding-{digest}"


def work(arguments: argparse.Namespace) -> None:
    """Make and judge the images of every `workers`-th job, from the number of this worker on."""
    host.start_comfyui(*([] if arguments.gpu else ["--cpu"]))
    import torch
    from laboratory import Job, Laboratory, Sampling

    draw_prompts = host.part("evaluation.prompts").draw_prompts
    batches = [range(arguments.images)[at : at + BATCH] for at in range(0, arguments.images, BATCH)]
    jobs = [
        Job(name, prompt.text, tuple(images))
        for name in arguments.sets
        for prompt, images in zip(draw_prompts(name, len(batches)), batches, strict=True)
    ]
    folder = folder_of(arguments)
    done = {(row.prompt_set, row.workflow, row.image) for row in read_rows(folder)}
    with torch.inference_mode(), (folder / f"{time.time_ns()}-{arguments.worker}.jsonl").open("w") as file:
        laboratory = Laboratory(Sampling(**settings_of(arguments)))
        for job in jobs[arguments.worker :: arguments.workers]:
            left = [
                name for name in arguments.workflows if any((job.prompt_set, name, i) not in done for i in job.images)
            ]
            for row in laboratory.rows(job, left) if left else ():
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
    parser.add_argument("--workflows", nargs="+", choices=WORKFLOWS, default=list(WORKFLOWS), help="of workflows.py")
    parser.add_argument("--images", type=int, default=240, help="images for each set and workflow")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--cfg", type=float, default=5.0)
    parser.add_argument("--sampler", default="euler")
    parser.add_argument("--scheduler", default="normal")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes of one thread each")
    parser.add_argument("--gpu", action="store_true", help="use the accelerator that ComfyUI finds")
    parser.add_argument(
        "--again", nargs="+", choices=WORKFLOWS, default=[], help="workflows whose kept images are out of date"
    )
    parser.add_argument("--kept", type=Path, default=host.ROOT / "output" / "benchmarks", help="where images are kept")
    parser.add_argument(
        "--tables", type=Path, default=host.RESULTS / "binding", help="where the tables go, without .md"
    )
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker is not None:
        work(arguments)
        return
    settings = settings_of(arguments)
    folder = folder_of(arguments)
    folder.mkdir(parents=True, exist_ok=True)
    forget_rows(folder, arguments.again)
    rate = supervise(arguments, folder)
    records = compare(read_rows(folder), arguments.sets, arguments.workflows, arguments.images)
    head = [
        "How often the bundled demo model draws every thing of a prompt in its own colour and nothing else. These are "
        "no figures of Stable Diffusion. Prompts and noise are the same in every workflow; SE is the standard error.",
        "",
        f"Model {settings['model_sha256']}, {settings['sampler']} {settings['scheduler']}, {settings['steps']} steps, "
        f"CFG {settings['cfg']:g}, batch {BATCH}. {host.machine()}. {date.today().isoformat()}.",
    ]
    if rate == rate:
        head[-1] += f" {rate:.2f} images a second in {arguments.workers} processes."
    write_tables(records, head, arguments.tables)
    print(markdown(records, head))


if __name__ == "__main__":
    main()
