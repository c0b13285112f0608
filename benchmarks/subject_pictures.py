"""Measured pictures of subjects: made by several processes, kept, and not made again."""

from __future__ import annotations

import argparse
import functools
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import host
import numpy as np
from subject_cases import BESIDE, CFG, OTHERS, SEED, STEPS, TWO, Case, Task

ADAPTER = host.ROOT / "demo" / "subjects.safetensors"
Rows = dict[str, list[dict]]
"""By case, picture by picture."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of every program that measures such pictures."""
    parser.add_argument("--images", type=int, default=240, help="pictures of each case")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes of one thread each")
    parser.add_argument("--kept", type=Path, default=host.ROOT / "output" / "benchmarks", help="where rows are kept")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)


def measured_pictures(arguments: argparse.Namespace, cases: Sequence[Case], adapters: Sequence[Path]) -> list[Rows]:
    """The rows of each adapter.

    Each worker process runs the whole command once more, as far as this call: cases and adapters must follow from the
    command line alone.
    """
    folders = [arguments.kept / f"subjects-{host.file_digest(each)}" for each in adapters]
    if arguments.worker is not None:
        for adapter, folder in zip(adapters, folders, strict=True):
            _work(adapter, cases, arguments.images, folder, arguments.worker, arguments.workers)
        sys.exit()
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    wanted = {(case.name, image) for case in cases for image in range(arguments.images)}
    if any(wanted - _kept(folder).keys() for folder in folders):
        _supervise(arguments.workers)
    found = [_kept(folder) for folder in folders]
    return [
        {case.name: [rows[case.name, image] for image in range(arguments.images)] for case in cases} for rows in found
    ]


def _supervise(count: int) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    workers = [
        subprocess.Popen([sys.executable, *sys.argv, "--worker", str(number)], env=environment)
        for number in range(count)
    ]
    if any([worker.wait() for worker in workers]):
        sys.exit("A worker failed.")


def _kept(folder: Path) -> dict[tuple[str, int], dict]:
    lines = [line for path in sorted(folder.glob("*.jsonl")) for line in path.read_text().splitlines(keepends=True)]
    rows = [json.loads(line) for line in lines if line.endswith("}\n")]
    return {(row["case"], row["image"]): row for row in rows}


def _work(adapter: Path, cases: Sequence[Case], images: int, folder: Path, worker: int, workers: int) -> None:
    start()
    import torch

    done = _kept(folder)
    with torch.inference_mode(), (folder / f"{os.getpid()}-{worker}.jsonl").open("w") as file:
        studio = Studio(adapter)
        for image in range(worker, images, workers):
            for case in cases:
                if (case.name, image) not in done:
                    file.write(json.dumps(studio.measured(case, image)) + "\n")
            file.flush()


@functools.cache
def start() -> None:
    """ComfyUI, once."""
    host.start_comfyui("--cpu")


def task_of(image: int) -> Task:
    """What picture number ``image`` has."""
    world, rng = host.part("world.subjects"), np.random.default_rng((SEED, image))
    shapes = [str(shape) for shape in rng.choice(world.SHAPES, 2, replace=False)]
    subjects = [world.sample_subject(rng, shape) for shape in shapes]
    references = [world.reference(rng, subject, cut_out=False) for subject in subjects]
    others = [[world.sample_subject(rng, shape) for _ in range(OTHERS)] for shape in shapes]
    colour = str(rng.choice(host.part("world.names").COLOURS))
    return Task(shapes, subjects, references, others, colour)


class Studio:
    """The demo model with a subject adapter."""

    def __init__(self, adapter: Path):
        loaded = host.run_node("SBLoadDemoModel")
        self.model, self.clip, self.vae = loaded["MODEL"], loaded["CLIP"], loaded["VAE"]
        files = host.part("subjects.checkpoint")
        if adapter != ADAPTER:
            import folder_paths

            # The first folder: another adapter's may have a file of the same name.
            folder_paths.add_model_folder_path(files.FOLDER, str(adapter.parent), is_default=True)
        checkpoint = files.DEMO_NAME if adapter == ADAPTER else adapter.name
        adapted = host.run_node("SBLoadSubjectAdapter", checkpoint=checkpoint, model=self.model)
        self.adapter, self.adapted = adapted["SUBJECT_ADAPTER"], adapted["MODEL"]
        self.negative = self.clip.encode_from_tokens_scheduled(self.clip.tokenize(""))
        self.world, self.identity = host.part("world.subjects"), host.part("evaluation.identity")

    def measured(self, case: Case, image: int) -> dict:
        """What became of a picture of a case."""
        task, picture = task_of(image), self.picture(case, image)
        found = self.identity.shapes_in(picture)
        result = {"case": case.name, "image": image, "identity": [], "blending": []}
        for place in range(case.count):
            shape, subject = self.identity.one_of(found, task.shapes[place]), task.subjects[place]
            best = shape is not None and self.identity.place_among(picture, shape, subject, task.others[place]) == 0
            result["identity"].append(bool(best))
            if shape is not None and case.prompt == TWO:
                other = task.subjects[1 - place]
                result["blending"].append(self.identity.share_of_other(picture, shape, subject, other))
        if case.prompt == BESIDE:
            result["adherence"] = self._adheres(picture, found, task)
        return result

    def picture(self, case: Case, image: int) -> np.ndarray:
        """The picture ``(H, W, 3)`` of 0..1."""
        import comfy.sample
        import torch

        task = task_of(image)
        if case.rendered:
            return self._rendered(case, task, image)
        text = task.text(case)
        entities = " | ".join(shape for shape in task.shapes if shape in text)
        bound = host.run_node("SBBindPrompt", clip=self.clip, text=text, entities=entities)
        model, positive = self.adapted if case.adapted else self.model, bound["CONDITIONING"]
        if case.delay is not None:
            model, positive = self._with_subjects(case, task, positive, bound["SEMANTIC_BINDING"])
        noise = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(image))
        conditionings = positive, self.negative
        latent = comfy.sample.sample(
            model, noise, STEPS, CFG, "euler", "normal", *conditionings, torch.zeros_like(noise), disable_pbar=True
        )
        return self.vae.decode(latent)[0].float().cpu().numpy()

    def _rendered(self, case: Case, task: Task, image: int) -> np.ndarray:
        """The subjects of the case somewhere on grey, by the world's own program and then the autoencoder."""
        import torch

        rng, world = np.random.default_rng((SEED, image, 1)), self.world
        things = tuple(world.Thing(shape, "", None, 0.0, 0.0, 1.0) for shape in task.shapes[: case.count])
        scene = world.SubjectScene(
            world.place(rng, things), tuple(task.subjects[: case.count]), world.sample_background(rng)
        )
        picture = torch.from_numpy(world.render(scene))[None]
        return self.vae.decode(self.vae.encode(picture))[0].float().cpu().numpy()

    def _with_subjects(self, case: Case, task: Task, conditioning, binding):
        """The adapter's model and the conditioning with the subjects of the case."""
        import torch

        model = self.adapted
        if case.boxes:
            binding = host.run_node("SBMasksFromBoxes", binding=binding, width=128, height=128)["SEMANTIC_BINDING"]
        if case.focused:
            options = {"background": "sees no entity", "end_and_padding": "closed", "start": 0.0}
            model = host.run_node("SBObjectFocusedAttention", model=model, binding=binding, **options)["MODEL"]
        for shape, reference in zip(task.shapes[: case.count], task.references, strict=False):
            given = {"image": torch.from_numpy(reference)[None], "entity": shape}
            binding = host.run_node("SBEntitySubject", binding=binding, **given)["SEMANTIC_BINDING"]
        injected = host.run_node(
            "SBSubjectInjection",
            model=model,
            conditioning=conditioning,
            binding=binding,
            adapter=self.adapter,
            delay=case.delay,
            localisation=case.localisation,
        )
        return injected["MODEL"], injected["CONDITIONING"]

    def _adheres(self, picture: np.ndarray, found, task: Task) -> bool:
        """Whether both shapes are there once, and the second has its colour."""
        first, second = (self.identity.one_of(found, shape) for shape in task.shapes)
        if first is None or second is None:
            return False
        detected = host.part("evaluation.detect").detect(picture)
        return any(
            thing.shape == task.shapes[1] and thing.colour == task.colour and (thing.mask & second.mask).any()
            for thing in detected
        )
