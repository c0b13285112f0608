"""Subjects of the demo model: are they drawn, kept apart, and what is left of the text?

    .dev/venv/bin/python benchmarks/subjects.py [--images 240] [--cases "one subject" ...]

Every picture has subjects and noise of its own, the same in every case. Identity: the share of pictures in which the
only thing of the subject's shape fits the subject better than 23 others of that shape. Blending: the share of a thing's
pixels nearer to a colour of the other subject. Adherence: the other thing of the prompt is there, in its colour, and
so is the subject's shape. Measured pictures are kept under output/ and not made again.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import host
import numpy as np
from report import table, with_error, write_report

SEED = 9000
"""Subjects of picture i are drawn from this number and i; training had others."""

OTHERS = 23
STEPS, CFG = 20, 5.0
DELAYS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8)
BEST = 0.2
"""The delay of the cases that have no other."""

ONE, TWO, BESIDE = "one", "two", "beside a coloured thing"


@dataclass(frozen=True)
class Case:
    """``prompt`` is one of ONE, TWO, BESIDE; no delay: the text alone."""

    name: str
    prompt: str
    delay: float | None = BEST
    localisation: str = "off"


CASES = (
    Case("one subject", ONE),
    Case("one, text alone", ONE, delay=None),
    Case("two subjects", TWO),
    Case("two, localised by attention", TWO, localisation="masks, else attention"),
    Case("two, text alone", TWO, delay=None),
    *(Case(f"delay {delay:g}", BESIDE, delay) for delay in DELAYS),
    Case("beside, text alone", BESIDE, delay=None),
)


class Studio:
    """The demo model with its subject adapter."""

    def __init__(self):
        loaded = host.run_node("SBLoadDemoModel")
        self.model, self.clip, self.vae = loaded["MODEL"], loaded["CLIP"], loaded["VAE"]
        adapted = host.run_node("SBLoadSubjectAdapter", checkpoint="demo model", model=self.model)
        self.adapter, self.adapted = adapted["SUBJECT_ADAPTER"], adapted["MODEL"]
        self.negative = self.clip.encode_from_tokens_scheduled(self.clip.tokenize(""))
        self.world, self.identity = host.part("demo.subject_world"), host.part("evaluation.identity")

    def measured(self, case: Case, image: int) -> dict:
        """What became of a picture of a case."""
        rng = np.random.default_rng((SEED, image))
        shapes = [str(shape) for shape in rng.choice(self.world.SHAPES, 2, replace=False)]
        subjects = [self.world.sample_subject(rng, shape) for shape in shapes]
        references = [self.world.reference(rng, subject, cut_out=False) for subject in subjects]
        others = [[self.world.sample_subject(rng, shape) for _ in range(OTHERS)] for shape in shapes]
        colour = str(rng.choice(host.part("demo.architecture").COLOURS))
        count = {ONE: 1, TWO: 2, BESIDE: 1}[case.prompt]
        phrases = [f"a {shape}" for shape in shapes[:count]]
        if case.prompt == BESIDE:
            phrases.append(f"a {colour} {shapes[1]}")
        picture = self._picture(case, " and ".join(phrases), shapes, references[:count], image)
        found = self.identity.shapes_in(picture)
        result = {"case": case.name, "image": image, "identity": [], "blending": [], "error": []}
        for place in range(count):
            shape = self.identity.one_of(found, shapes[place])
            best = shape is not None and self.identity.place_among(picture, shape, subjects[place], others[place]) == 0
            result["identity"].append(bool(best))
            if shape is not None:
                result["error"].append(self.identity.fill_error(picture, shape, subjects[place]))
                if count == 2:
                    other = subjects[1 - place]
                    result["blending"].append(self.identity.share_of_other(picture, shape, subjects[place], other))
        if case.prompt == BESIDE:
            result["adherence"] = self._adheres(picture, found, shapes, colour)
        return result

    def _picture(self, case: Case, text: str, shapes, references, image: int) -> np.ndarray:
        import comfy.sample
        import torch

        entities = " | ".join(shape for shape in shapes if shape in text)
        bound = host.run_node("SBBindPrompt", clip=self.clip, text=text, entities=entities)
        model, positive, binding = self.adapted, bound["CONDITIONING"], bound["SEMANTIC_BINDING"]
        if case.delay is None:
            model = self.model
        else:
            for shape, reference in zip(shapes, references, strict=False):
                given = torch.from_numpy(reference)[None]
                binding = host.run_node("SBEntitySubject", binding=binding, image=given, entity=shape)[
                    "SEMANTIC_BINDING"
                ]
            injected = host.run_node(
                "SBSubjectInjection",
                model=model,
                conditioning=positive,
                binding=binding,
                adapter=self.adapter,
                delay=case.delay,
                localisation=case.localisation,
            )
            model, positive = injected["MODEL"], injected["CONDITIONING"]
        noise = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(image))
        latent = comfy.sample.sample(
            model,
            noise,
            STEPS,
            CFG,
            "euler",
            "normal",
            positive,
            self.negative,
            torch.zeros_like(noise),
            disable_pbar=True,
            seed=image,
        )
        return self.vae.decode(latent)[0].float().cpu().numpy()

    def _adheres(self, picture, found, shapes, colour: str) -> bool:
        """Whether both shapes are there once, and the second has its colour."""
        first, second = (self.identity.one_of(found, shape) for shape in shapes)
        if first is None or second is None:
            return False
        detected = host.part("evaluation.detect").detect(picture)
        return any(
            thing.shape == shapes[1] and thing.colour == colour and (thing.mask & second.mask).any()
            for thing in detected
        )


def kept(folder: Path) -> dict[tuple[str, int], dict]:
    """The pictures measured so far, by case and number."""
    lines = [line for path in sorted(folder.glob("*.jsonl")) for line in path.read_text().splitlines(keepends=True)]
    rows = [json.loads(line) for line in lines if line.endswith("}\n")]
    return {(row["case"], row["image"]): row for row in rows}


def work(cases: Sequence[Case], images: int, folder: Path, worker: int, workers: int) -> None:
    """Measure this worker's pictures."""
    host.start_comfyui("--cpu")
    import torch

    done = kept(folder)
    with torch.inference_mode(), (folder / f"{os.getpid()}-{worker}.jsonl").open("w") as file:
        studio = Studio()
        for image in range(worker, images, workers):
            for case in cases:
                if (case.name, image) not in done:
                    file.write(json.dumps(studio.measured(case, image)) + "\n")
            file.flush()


def mean(values: Sequence[float]) -> tuple[float, float]:
    """Mean and its standard error."""
    if len(values) < 2:
        return math.nan, math.nan
    return float(np.mean(values)), float(np.std(values, ddof=1) / len(values) ** 0.5)


def summarised(case: Case, rows: Sequence[dict]) -> dict:
    """Rates of a case over its pictures."""
    record = {"case": case.name, "n": len(rows), "delay": case.delay, "localisation": case.localisation}
    measures = {
        "identity": [float(np.mean(row["identity"])) for row in rows],
        "all_subjects": [float(all(row["identity"])) for row in rows],
        "blending": [float(np.mean(row["blending"])) for row in rows if row["blending"]],
        "adherence": [float(row["adherence"]) for row in rows if "adherence" in row],
    }
    for name, values in measures.items():
        record[name], record[f"{name}_error"] = mean(values)
    return record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=240)
    parser.add_argument("--cases", nargs="+", choices=[case.name for case in CASES], help="all by default")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes of one thread each")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--tables", type=Path, default=host.RESULTS / "subjects", help="without .md")
    arguments = parser.parse_args()
    cases = [case for case in CASES if arguments.cases is None or case.name in arguments.cases]
    digest = host.file_digest(host.ROOT / "demo" / "subjects.safetensors")
    folder = host.ROOT / "output" / "benchmarks" / f"subjects-{digest}"
    folder.mkdir(parents=True, exist_ok=True)
    if arguments.worker is not None:
        work(cases, arguments.images, folder, arguments.worker, arguments.workers)
        return
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    workers = [
        subprocess.Popen([sys.executable, *sys.argv, "--worker", str(number)], env=environment)
        for number in range(arguments.workers)
    ]
    if any([worker.wait() for worker in workers]):
        sys.exit("A worker failed.")
    rows = kept(folder)
    records = [
        summarised(case, [rows[case.name, image] for image in range(arguments.images) if (case.name, image) in rows])
        for case in cases
    ]
    head = [
        "Subjects of the bundled demo model, by the adapter in demo/subjects.safetensors. These are no figures of "
        "Stable Diffusion. Subjects and noise of a picture are the same in every case; ± is the standard error.",
        "Identity: share of subjects whose shape is there once and fits the subject better than 23 others of that "
        "shape (by chance .042). Blending: share of a subject's pixels nearer to a colour of the other's. Adherence: "
        "the other thing is there in its colour, and the subject's shape.",
        f"Adapter {digest}, euler normal, {STEPS} steps, CFG {CFG:g}, delay {BEST:g} where none is given. "
        f"{host.machine()}. {date.today().isoformat()}.",
    ]
    measures = ("identity", "all_subjects", "blending", "adherence")
    lines = [
        [each["case"], str(each["n"]), *(with_error(each[name], each[f"{name}_error"]) for name in measures)]
        for each in records
    ]
    shown = table(["case", "n", "identity", "all subjects", "blending", "adherence"], lines)
    text = "\n".join(["# Subjects", "", *(line for each in head for line in (each, "")), *shown]) + "\n"
    write_report(text, records, head, arguments.tables)
    print(text)


if __name__ == "__main__":
    main()
