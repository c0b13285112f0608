"""What the pack costs: sampling time as ratios to plain sampling, all in one process, in turns; and memory.

    .dev/venv/bin/python benchmarks/speed.py [--model sd15 | demo] [--repeats 5] [--steps 3] [--minutes 15]
    .dev/venv/bin/python benchmarks/speed.py --tome [--model sd15 | demo | tiny] [--repeats 5] [--minutes 15]

sd15 and sdxl have the full size of Stable Diffusion 1.5 and SDXL, random weights, and latents of 64 x 64; tiny is the
tests' model in the layout of SDXL, with 16 x 16; demo is the bundled model, for a quick look. Every repeat runs each
workflow once, in another order, and a ratio compares steps of the same repeat. When the time is up, or after an
interruption, the table is made of the repeats done so far.

Token optimisation takes gradients in its steps, so its time is compared with that of the published procedure instead:
with --tome (token_speed.py).

What acts only in some steps of a run acts here in all of them. The first step of a run is told apart: it has all that
happens once, and in it object-focused attention has no step before it, so that every layer assigns its own patches.
"""

from __future__ import annotations

import argparse
import functools
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import NamedTuple

import host
import numpy as np
from report import quartiles, table, write_report
from subject import Subject, Timing, peak_memory
from workflow import Workflow
from workflows import custom, guided

SMALL, TWO_ENCODERS = ("tiny", "demo"), ("sdxl", "tiny")


def off(workflow: Workflow) -> Workflow:
    """Every technique at strength 0, and one without entities."""
    shape = {"shape": "linear", **dict.fromkeys(("global_start", "global_end", "entity_start", "entity_end"), 1.0)}
    weighed = (
        workflow.through("SBSelfAttentionTemperature", temperature=1.0, end=1.0)
        .through("SBObjectFocusedAttention", mode={"mode": "soft", "penalty": 0.0}, start=0.0)
        .through("SBStageWeights", shape=shape)
    )
    without = replace(weighed, binding=replace(weighed.binding, entities=()))
    none = replace(host.part("attention.token_merge.presets").ATTRIBUTE_BINDING, token_steps=0, entropy_steps=0)
    return (
        without.through("SBObjectFocusedAttention", start=0.0)
        .through("SBStageWeights")
        .through("SBTokenOptimization", settings=custom(none))
    )


def heated(workflow: Workflow) -> Workflow:
    return workflow.through("SBSelfAttentionTemperature", end=1.0)


def focused(workflow: Workflow) -> Workflow:
    return workflow.through("SBObjectFocusedAttention", start=0.0).through("SBStageWeights")


def recorded(workflow: Workflow, resolution: str, affinity: bool = False) -> Workflow:
    return workflow.through("SBRecordAttention", resolution=resolution, affinity=affinity)


def with_subjects(workflow: Workflow, localisation: str) -> Workflow:
    from random_adapter import injected

    return injected(workflow, localisation)


def excited(workflow: Workflow) -> Workflow:
    return guided(workflow, "attend and excite", thresholds="", end=1.0)


class Case(NamedTuple):
    """A way of using the pack, the ratio that it may reach at most, and the models that it is not for."""

    make: Callable[[Workflow], Workflow]
    most: float | None = None
    not_for: tuple[str, ...] = ()


CASES = {
    "plain": Case(lambda workflow: workflow),
    "all at strength 0": Case(off, 1.0),
    "recorder, latent/2": Case(lambda workflow: recorded(workflow, "latent/2"), 1.05),
    "recorder, latent/4": Case(lambda workflow: recorded(workflow, "latent/4"), 1.05),
    "recorder with affinity, latent/4": Case(lambda workflow: recorded(workflow, "latent/4", affinity=True)),
    "self-attention temperature": Case(heated, 1.01),
    "object-focused attention and stage weights": Case(focused, 1.08),
    "all of these, recorder at latent/2": Case(lambda workflow: recorded(focused(heated(workflow)), "latent/2"), 1.12),
    "token merge": Case(lambda workflow: workflow.through("SBTokenMerge"), 1.01),
    "Attend-and-Excite": Case(excited, 2.4),
    "Attend-and-Excite, SynGen and entropy loss": Case(
        lambda workflow: guided(guided(excited(workflow), "syngen", end=1.0), "entropy", end=1.0)
    ),
    "subjects": Case(lambda workflow: with_subjects(workflow, "off"), not_for=TWO_ENCODERS),
    "subjects, localised by attention": Case(
        lambda workflow: with_subjects(workflow, "masks, else attention"), not_for=TWO_ENCODERS
    ),
}
"""All are compared with "plain". A new technique is one more line. Guidance may take 1.7 times as long where it acts in
half of the steps."""


@dataclass(frozen=True)
class Measured:
    """The runs of one workflow, and the most MiB that one of them holds."""

    timings: list[Timing]
    memory: float


def measure(subject: Subject, names: Iterable[str], repeats: int, steps: int, minutes: float) -> dict[str, Measured]:
    """Every workflow by its name, with as many timings for each."""
    end = time.monotonic() + 60.0 * minutes
    made = {name: CASES[name].make(subject.plain) for name in names}
    subject.run(subject.plain, steps=1)
    measured = {
        name: Measured([], peak_memory(functools.partial(subject.run, workflow, steps=2)))
        for name, workflow in made.items()
    }
    order = np.random.default_rng(0)
    try:
        for repeat in range(1, repeats + 1):
            start = time.monotonic()
            turns = [list(made)[index] for index in order.permutation(len(made))]
            of_repeat = {name: subject.run(made[name], steps) for name in turns}
            for name, timing in of_repeat.items():
                measured[name].timings.append(timing)
            plain = of_repeat["plain"].wall[-1]
            load = os.getloadavg()[0]
            print(f"repeat {repeat} of {repeats}: {plain:.2f} s a step of plain, load {load:.1f}", flush=True)
            if time.monotonic() + (time.monotonic() - start) > end:
                break
    except KeyboardInterrupt:
        print("interrupted")
    return measured


def later(timings: list[Timing], clock: str) -> list[float]:
    """Seconds of every step but the first of each run."""
    return [seconds for timing in timings for seconds in getattr(timing, clock)[1:]]


def ratios(mine: list[float], plain: list[float]) -> tuple[float, float, float]:
    return quartiles([seconds / other for seconds, other in zip(mine, plain, strict=True)])


def compare(measured: dict[str, Measured]) -> list[dict]:
    """A record for each workflow: its ratios to plain, its memory beyond plain's, and whether latents are the same."""
    plain = measured["plain"]
    records = []
    for name, mine in measured.items():
        timings = mine.timings
        records.append(
            {
                "workflow": name,
                "n": len(later(timings, "wall")),
                "seconds": quartiles(later(timings, "wall")),
                "wall_ratio": ratios(later(timings, "wall"), later(plain.timings, "wall")),
                "processor_ratio": ratios(later(timings, "processor"), later(plain.timings, "processor")),
                "first_step_ratio": ratios([t.wall[0] for t in timings], [t.wall[0] for t in plain.timings]),
                "at_most": CASES[name].most,
                "memory_mib": mine.memory,
                "more_memory_mib": mine.memory - plain.memory,
                "identical": all(np.array_equal(timing.latent, plain.timings[0].latent) for timing in timings),
            }
        )
    return records


COLUMNS = (
    "workflow",
    "n",
    "seconds a step",
    "ratio",
    "quartiles",
    "processor ratio",
    "quartiles",
    "at most",
    "first step",
    "memory (MiB)",
    "− plain",
    "identical",
)


def markdown(records: list[dict], head: list[str]) -> str:
    rows = []
    for record in records:
        low, ratio, high = record["wall_ratio"]
        processor_low, processor, processor_high = record["processor_ratio"]
        rows.append(
            [
                record["workflow"],
                str(record["n"]),
                f"{record['seconds'][1]:.2f}",
                f"{ratio:.3f}",
                f"{low:.3f} to {high:.3f}",
                f"{processor:.3f}",
                f"{processor_low:.3f} to {processor_high:.3f}",
                "" if record["at_most"] is None else f"{record['at_most']:.2f}",
                f"{record['first_step_ratio'][1]:.3f}",
                f"{record['memory_mib']:.1f}",
                f"{record['more_memory_mib']:+.1f}",
                "yes" if record["identical"] else "no",
            ]
        )
    return "\n".join(["# Sampling time", "", *head, "", *table(COLUMNS, rows)]) + "\n"


def report(subject: Subject, names: Iterable[str], repeats: int, steps: int, minutes: float) -> tuple[list[dict], str]:
    """The records, and what they are."""
    measured = measure(subject, names, repeats, steps, minutes)
    if not measured["plain"].timings:
        raise SystemExit("No repeat was finished.")
    about = (
        "Time of a step divided by that of the same step of plain sampling in the same repeat: median and quartiles "
        f"over n steps, {steps} of each run; by the clock, and by processor time over all threads, which other "
        "programs disturb less. Every technique acts in every step. The first step of a run, apart, has all that "
        "happens once; in it every layer assigns its own patches, which no later step does. Memory: the most that the "
        "tensors of a run of two steps take at a time, without the weights."
    )
    return compare(measured), about


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tome", action="store_true", help="time token optimisation, against the published procedure")
    parser.add_argument("--model", choices=("sd15", "sdxl", "tiny", "demo"), default="sd15")
    parser.add_argument("--cells", type=int, default=64, help="of a side of the latent of sd15 and sdxl")
    parser.add_argument("--workflows", nargs="+", choices=CASES, help="compared with plain; by default all")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3, help="sampler steps of a run, at least 2")
    parser.add_argument("--minutes", type=float, default=15.0, help="start no repeat that would end later")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="1 where other programs use the machine")
    parser.add_argument("--gpu", action="store_true", help="use the accelerator that ComfyUI finds")
    parser.add_argument("--tables", type=Path, help="where the tables go, without .md")
    arguments = parser.parse_args()
    if arguments.steps < 2:
        parser.error("--steps must be at least 2: the first step is told apart.")
    if arguments.tome and arguments.batch > 1:
        parser.error("--tome: the published procedure makes one picture at a time.")
    host.start_comfyui(*([] if arguments.gpu else ["--cpu"]))
    import token_speed
    import torch

    torch.set_num_threads(arguments.threads)
    with torch.inference_mode():
        subject = Subject(arguments.model, arguments.batch, arguments.cells)
        if arguments.tome:
            records, about = token_speed.report(subject, arguments.repeats, arguments.minutes, arguments.model in SMALL)
        else:
            wanted = arguments.workflows or [name for name in CASES if arguments.model not in CASES[name].not_for]
            names = dict.fromkeys(["plain", *wanted])
            records, about = report(subject, names, arguments.repeats, arguments.steps, arguments.minutes)
    height, width = subject.noise.shape[-2:]
    head = [
        about,
        "",
        f"Model {arguments.model}, latent {height} x {width}, CFG, batch {arguments.batch}. {host.machine()}, "
        f"{arguments.threads} threads, load average {os.getloadavg()[0]:.1f}. {date.today().isoformat()}.",
    ]
    text = token_speed.markdown(records, head) if arguments.tome else markdown(records, head)
    name = f"speed-tome-{arguments.model}" if arguments.tome else f"speed-{arguments.model}"
    write_report(text, records, head, arguments.tables or host.RESULTS / name)
    print(text)


if __name__ == "__main__":
    main()
