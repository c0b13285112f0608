"""What the pack costs in sampling time: ratios to plain sampling, all in one process, in turns.

    .dev/venv/bin/python benchmarks/speed.py [--model sd15 | demo] [--repeats 9] [--minutes 8]

sd15 is the full size of Stable Diffusion 1.5 with random weights at latents of 64 x 64; demo is the bundled model, for
a quick look. Every repeat runs each workflow once, in another order, and a ratio compares runs of the same repeat. When
the time is up, or after an interruption, the table is made of the repeats done so far.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import host
import numpy as np

PROMPT = "a photo of a black cat wearing sunglasses and a white dog"
ENTITIES = "cat: black, wearing sunglasses | dog: white"
IDLE, LARGE, SMALL = "engine, nothing to do", "recorder, latent/2", "recorder, latent/4"
MOST = {IDLE: 1.0, LARGE: 1.05, SMALL: 1.05}
"""The ratio that each may reach at most."""


@dataclass(frozen=True)
class Idle:
    """A technique that takes part in the run and does nothing: what is left of one at strength 0."""

    def check(self, layers):
        pass

    def begin(self, run):
        return host.part("attention.run").Participant()


def workflows() -> dict[str, Callable]:
    """What is compared with "plain", by name. A new technique is one more line."""
    with_technique = host.part("attention.engine").with_technique
    return {
        "plain": lambda workflow: workflow,
        IDLE: lambda workflow: replace(workflow, model=with_technique(workflow.model, Idle())),
        LARGE: lambda workflow: workflow.through("SBRecordAttention", resolution="latent/2"),
        SMALL: lambda workflow: workflow.through("SBRecordAttention", resolution="latent/4"),
    }


@dataclass(frozen=True)
class Timing:
    """One run: seconds by the clock, seconds of processor time over all threads, and the latents (B, C, H, W)."""

    wall: float
    processor: float
    latent: np.ndarray


class Subject:
    """What is sampled: a model, a bound prompt and an empty one, and latents to start from."""

    def __init__(self, model: str, steps: int, batch: int):
        import torch
        from workflows import Workflow

        loaded = host.run_node("SBLoadDemoModel")
        bound = host.run_node("SBBindPrompt", clip=loaded["CLIP"], text=PROMPT, entities=ENTITIES)
        positive, binding = bound["CONDITIONING"], bound["SEMANTIC_BINDING"]
        if model == "demo":
            patcher, latent = loaded["MODEL"], (4, 16, 16)
            empty = torch.zeros_like(positive[0][0])
        else:
            from random_sd15 import CONTEXT_DIM, LATENT, random_sd15

            patcher, latent = random_sd15(torch.bfloat16), LATENT
            rows, empty = torch.randn(2, 1, binding.length, CONTEXT_DIM, generator=torch.Generator().manual_seed(0))
            positive = [[rows, positive[0][1]]]
        self.plain = Workflow(patcher, positive, binding)
        self.negative = [[empty, {}]]
        self.noise = torch.randn(batch, *latent, generator=torch.Generator().manual_seed(0))
        self.steps = steps

    def run(self, workflow) -> Timing:
        import comfy.sample
        import torch

        wall, processor = time.perf_counter(), time.process_time()
        latent = comfy.sample.sample(
            workflow.model,
            self.noise,
            self.steps,
            7.5,
            "euler",
            "normal",
            workflow.positive,
            self.negative,
            torch.zeros_like(self.noise),
            disable_pbar=True,
            seed=0,
        )
        latent = latent.float().cpu().numpy()
        return Timing(time.perf_counter() - wall, time.process_time() - processor, latent)


def measure(subject: Subject, repeats: int, minutes: float) -> dict[str, list[Timing]]:
    """Timings by workflow, as many for each; the first round, in which memory is claimed, is not kept."""
    cases = {name: make(subject.plain) for name, make in workflows().items()}
    timings = {name: [] for name in cases}
    end = time.monotonic() + 60.0 * minutes
    order = np.random.default_rng(0)
    try:
        for repeat in range(repeats + 1):
            start = time.monotonic()
            names = [list(cases)[index] for index in order.permutation(len(cases))]
            of_repeat = {name: subject.run(cases[name]) for name in names}
            if repeat:
                for name, timing in of_repeat.items():
                    timings[name].append(timing)
            plain = of_repeat["plain"]
            print(f"repeat {repeat} of {repeats}: plain {plain.wall:.2f} s, load {os.getloadavg()[0]:.1f}", flush=True)
            if time.monotonic() + (time.monotonic() - start) > end:
                break
    except KeyboardInterrupt:
        print("interrupted")
    return timings


def quartiles(values: list[float]) -> tuple[float, float, float]:
    """Lower quartile, median and upper quartile."""
    low, median, high = np.percentile(values, (25, 50, 75))
    return float(low), float(median), float(high)


def compare(timings: dict[str, list[Timing]]) -> list[dict]:
    """A record for each workflow: its ratios to plain, and whether its latents are the same."""
    plain = timings["plain"]
    records = []
    for name, mine in timings.items():
        pairs = list(zip(mine, plain, strict=True))
        records.append(
            {
                "workflow": name,
                "n": len(mine),
                "seconds": quartiles([timing.wall for timing in mine]),
                "wall_ratio": quartiles([timing.wall / other.wall for timing, other in pairs]),
                "processor_ratio": quartiles([timing.processor / other.processor for timing, other in pairs]),
                "at_most": MOST.get(name),
                "identical": all(np.array_equal(timing.latent, plain[0].latent) for timing in mine),
            }
        )
    return records


def markdown(records: list[dict], head: list[str]) -> str:
    columns = ["workflow", "n", "seconds", "ratio", "quartiles", "processor ratio", "quartiles", "at most", "identical"]
    lines = ["# Sampling time", "", *head, "", f"| {' | '.join(columns)} |", "|" + " --- |" * len(columns)]
    for record in records:
        low, ratio, high = record["wall_ratio"]
        processor_low, processor, processor_high = record["processor_ratio"]
        cells = [
            record["workflow"],
            str(record["n"]),
            f"{record['seconds'][1]:.2f}",
            f"{ratio:.3f}",
            f"{low:.3f} to {high:.3f}",
            f"{processor:.3f}",
            f"{processor_low:.3f} to {processor_high:.3f}",
            "" if record["at_most"] is None else f"{record['at_most']:.2f}",
            "yes" if record["identical"] else "no",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=("sd15", "demo"), default="sd15")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--minutes", type=float, default=8.0, help="start no repeat that would end later")
    parser.add_argument("--steps", type=int, default=1, help="sampler steps of a run")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="1 where other programs use the machine")
    parser.add_argument("--gpu", action="store_true", help="use the accelerator that ComfyUI finds")
    parser.add_argument("--tables", type=Path, help="where the tables go, without .md")
    arguments = parser.parse_args()
    host.start_comfyui(*([] if arguments.gpu else ["--cpu"]))
    import torch

    torch.set_num_threads(arguments.threads)
    with torch.inference_mode():
        timings = measure(
            Subject(arguments.model, arguments.steps, arguments.batch), arguments.repeats, arguments.minutes
        )
    if not timings["plain"]:
        raise SystemExit("No repeat was finished.")
    head = [
        "Time of a sampling run divided by that of plain sampling in the same repeat: median and quartiles over n "
        "repeats; by the clock, and by processor time over all threads, which other programs disturb less.",
        "",
        f"Model {arguments.model}, CFG, batch {arguments.batch}, steps {arguments.steps}. {host.machine()}, "
        f"{arguments.threads} threads, load average {os.getloadavg()[0]:.1f}. {date.today().isoformat()}.",
    ]
    records = compare(timings)
    text = markdown(records, head)
    path = arguments.tables or host.RESULTS / f"speed-{arguments.model}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".md").write_text(text, encoding="utf-8")
    path.with_suffix(".json").write_text(
        json.dumps({"about": head, "rows": records}, indent=1) + "\n", encoding="utf-8"
    )
    print(text)


if __name__ == "__main__":
    main()
