"""What LoRAs that train_loras.py has trained do to plain sampling: things left out, bound, and how pictures change.

    .dev/venv/bin/python benchmarks/trained.py [--cases CASE ...] [--sets two_counter ...] [--images 480]

All LoRAs and the untrained model draw the same prompts from the same noise; differences are paired. MGk is the share of
prompts of four things with at least k of them drawn, after TokenCompose's MULTIGEN. The distance is Frechet's, between
the pooled latents of the pictures and those of rendered scenes of the same prompts; FID is the same of a network's
features. Images are judged and kept as by binding.py.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import host
import judging
import numpy as np
from binding_table import Row
from report import number, table, with_error, write_report
from train_loras import CASES, file_of
from workflow import Workflow

SETS = ("two_counter", "four")
PLAIN = "plain"


def with_lora(path: Path) -> Callable[[Workflow], Workflow]:
    """Plain sampling of the demo model with a LoRA."""

    def make(workflow: Workflow) -> Workflow:
        import comfy.sd
        import comfy.utils

        weights = comfy.utils.load_torch_file(str(path), safe_load=True)
        model, _ = comfy.sd.load_lora_for_models(workflow.model, None, weights, 1.0, 0.0)
        return replace(workflow, model=model)

    return make


def frechet(one: np.ndarray, other: np.ndarray) -> float:
    """The Frechet distance between normal distributions with the means and covariances of two samples (N, D)."""
    means = [each.mean(0) for each in (one, other)]
    covariances = [np.cov(each, rowvar=False) for each in (one, other)]
    eigenvalues = np.linalg.eigvals(covariances[0] @ covariances[1])
    root = np.sqrt(np.clip(eigenvalues.real, 0.0, None)).sum()
    return float(((means[0] - means[1]) ** 2).sum() + np.trace(covariances[0]) + np.trace(covariances[1]) - 2.0 * root)


def scenes_of(prompts: Sequence[str], seed: int) -> np.ndarray:
    """The pooled latents of a rendered scene for each prompt, things placed by chance: (N, 64)."""
    import torch
    from laboratory import pooled

    loaded = host.run_node("SBLoadDemoModel")
    scenes, prompts_of = host.part("world.scenes"), host.part("evaluation.prompts")
    wanted = {each.text: each.wanted for of_set in prompts_of.PROMPT_SETS.values() for each in of_set}
    rng = np.random.default_rng(seed)
    found = []
    with torch.inference_mode():
        for text in prompts:
            things = tuple(scenes.Thing(each.name, each.colour, each.mark, 0.0, 0.0, 1.0) for each in wanted[text])
            scene = scenes.Scene(scenes.place(rng, things), scenes.sample_background(rng))
            picture = torch.from_numpy(scenes.render(scene))[None]
            found.append(pooled(loaded["VAE"].encode(picture)[0]))
    return np.array(found)


def measures(prompt_set: str) -> dict[str, Callable[[Row], float]]:
    """What is told of the images of a set, by title."""
    of_set: dict[str, Callable[[Row], float]] = {
        "present": lambda row: row.presence,
        "bound": lambda row: row.binding,
        "right": lambda row: row.share_right,
        "malformed": lambda row: float(row.verdict == "malformed"),
    }
    if prompt_set == "four":
        of_set |= {f"MG{k}": lambda row, k=k: float(round(4 * row.presence) >= k) for k in (2, 3, 4)}
    if prompt_set == "two_marked":
        of_set |= {"marks right": lambda row: row.marks_right}
    return of_set


def records_of(rows: Sequence[Row], sets: Sequence[str], names: Sequence[str], images: range) -> list[dict]:
    """For each set, workflow and measure its mean, and its paired differences to the untrained model and to the LoRA of
    the noise loss alone."""
    mean_and_error = host.part("evaluation.score").mean_and_error
    kept = {(row.prompt_set, row.workflow, row.image): row for row in rows}
    records = []
    for prompt_set in sets:
        for name in names:
            mine = [kept[prompt_set, name, image] for image in images]
            for title, measure in measures(prompt_set).items():
                values = [measure(row) for row in mine]
                mean, error = mean_and_error(values)
                record = {"set": prompt_set, "workflow": name, "measure": title, "n": len(values)}
                record |= {"mean": mean, "error": error}
                for against in names[:2]:
                    others = [measure(kept[prompt_set, against, image]) for image in images]
                    pairs = zip(values, others, strict=True)
                    difference, error = mean_and_error([value - other for value, other in pairs])
                    record |= {f"minus {against}": difference, f"minus {against} error": error}
                records.append(record)
    return records


def distances(rows: Sequence[Row], sets: Sequence[str], names: Sequence[str], images: range) -> list[dict]:
    """For each set and workflow, and for other rendered scenes, the distance to rendered scenes."""
    kept = {(row.prompt_set, row.workflow, row.image): row for row in rows}
    records = []
    for prompt_set in sets:
        prompts = [kept[prompt_set, PLAIN, image].prompt for image in images]
        real = scenes_of(prompts, seed=0)
        samples = {name: np.array([kept[prompt_set, name, image].pooled for image in images]) for name in names}
        for name, sample in {"other scenes": scenes_of(prompts, seed=1), **samples}.items():
            records.append({"set": prompt_set, "workflow": name, "measure": "distance", "mean": frechet(sample, real)})
    return records


def lines_of(records: Sequence[dict], far: Sequence[dict], sets: Sequence[str], names: Sequence[str]) -> list[str]:
    """A table for each set."""
    lines = []
    for prompt_set in sets:
        titles = list(measures(prompt_set))
        body = []
        for name in names:
            of_name = {r["measure"]: r for r in records if (r["set"], r["workflow"]) == (prompt_set, name)}
            (distance,) = (r["mean"] for r in far if (r["set"], r["workflow"]) == (prompt_set, name))
            cells = [with_error(of_name[title]["mean"], of_name[title]["error"]) for title in titles]
            body.append([name, *cells, number(distance)])
            for against in names[:2]:
                if name not in names[: names.index(against) + 1]:
                    gains = [(of_name[t][f"minus {against}"], of_name[t][f"minus {against} error"]) for t in titles]
                    body.append([f"− {against}", *(with_error(*gain, sign="+") for gain in gains), ""])
        (least,) = (r["mean"] for r in far if (r["set"], r["workflow"]) == (prompt_set, "other scenes"))
        lines += [f"## {prompt_set}", "", f"Distance of other rendered scenes: {least:.3f}.", ""]
        lines += [*table(["LoRA", *titles, "distance"], body), ""]
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), help="LoRAs to compare")
    sets = host.part("evaluation.prompts").PROMPT_SETS
    parser.add_argument("--sets", nargs="+", choices=sets, default=list(SETS), help="prompt sets")
    judging.add_arguments(parser, images=480)
    parser.add_argument(
        "--tables", type=Path, default=host.RESULTS / "trained", help="where the tables go, without .md"
    )
    arguments = parser.parse_args()
    # Named with the file, so that images of an earlier training under the same name are not taken for this one's.
    names = {f"{case} ({host.file_digest(file_of(case))[:6]})": file_of(case) for case in arguments.cases}
    workflows = {PLAIN: lambda workflow: workflow} | {name: with_lora(path) for name, path in names.items()}
    rows, rate = judging.judged_images(arguments, dict.fromkeys(arguments.sets, workflows))
    host.start_comfyui("--cpu")
    images = range(arguments.first, arguments.images)
    asked = rows, arguments.sets, list(workflows), images
    records, far = records_of(*asked), distances(*asked)
    head = [
        "LoRAs trained with attention supervision on the bundled demo model, by benchmarks/train_loras.py, and plain "
        "sampling with each. These are no figures of Stable Diffusion. Prompts and noise are the same for all; ± is "
        "the standard error; differences are paired.",
        judging.conditions(arguments, rate),
    ]
    body = [line for sentence in head for line in (sentence, "")]
    tables = lines_of(records, far, arguments.sets, list(workflows))
    text = "\n".join(["# Trained with attention supervision", "", *body, *tables]) + "\n"
    write_report(text, [*records, *far], head, arguments.tables)
    print(text)


if __name__ == "__main__":
    main()
