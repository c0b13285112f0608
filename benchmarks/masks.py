"""How well masks from attention cover the things of the demo model's pictures, by the settings they are made with.

    .dev/venv/bin/python benchmarks/masks.py [--set two_counter] [--images 240]

For each picture with as many things as the prompt has entities: the mean over the entities of the intersection over
union of mask and thing. A thing is what the judge finds; where the picture is right, it is known whose it is, elsewhere
entities and things are paired as suits the masks best. The figures are of the demo model in its world of shapes.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from pathlib import Path
from typing import Any

import host
import judging
import numpy as np
from report import table, with_error, write_report


@dataclass(frozen=True)
class Setting:
    """Widgets of Record Attention and of Masks from Attention that differ from the reference."""

    name: str
    recorded: tuple[tuple[str, Any], ...] = ()
    made: tuple[tuple[str, Any], ...] = ()


REFERENCE = {"record": "entities", "start": 0.5, "resolution": "auto", "affinity": True}
SETTINGS = (
    Setting("reference: second half, sharpen 1, highest, threshold 0.5, cleaned"),
    Setting("sharpen 0", made=(("sharpen", 0),)),
    Setting("sharpen 2", made=(("sharpen", 2),)),
    Setting("sharpen 4", made=(("sharpen", 4),)),
    Setting("method threshold", made=(("method", "threshold"),)),
    Setting("method otsu", made=(("method", "otsu"),)),
    Setting("threshold 0.3", made=(("threshold", 0.3),)),
    Setting("threshold 0.4", made=(("threshold", 0.4),)),
    Setting("threshold 0.6", made=(("threshold", 0.6),)),
    Setting("not cleaned", made=(("clean_up", False),)),
    Setting("all steps", recorded=(("start", 0.0),)),
    Setting("first half of the steps", recorded=(("start", 0.0), ("end", 0.5))),
    Setting("nouns alone", recorded=(("record", "entities and attributes"),)),
    Setting("latent/2", recorded=(("resolution", "latent/2"),)),
    Setting("all resolutions", recorded=(("resolution", "all"),)),
)


def overlap(masks: np.ndarray, things: np.ndarray) -> np.ndarray:
    """Intersection over union (E, T) of masks (E, H, W) and things (T, H, W), both bool."""
    both = (masks[:, None] & things[None]).sum((-2, -1))
    either = (masks[:, None] | things[None]).sum((-2, -1))
    return both / np.maximum(either, 1)


def scores(masks: np.ndarray, things: Sequence, names: Sequence[str], right: bool) -> tuple[float, float]:
    """Mean over the entities: with the things that are theirs (nan if the picture is not right), and as suits best."""
    found = overlap(masks, np.stack([thing.mask for thing in things]))
    rows = range(len(names))
    best = max(found[rows, order].mean() for order in permutations(rows))
    if not right:
        return np.nan, best
    shapes = [thing.shape for thing in things]
    return found[rows, [shapes.index(name) for name in names]].mean(), best


def measured(arguments: argparse.Namespace) -> dict[str, np.ndarray]:
    """For each setting the scores (pictures, 2)."""
    host.start_comfyui("--cpu")
    import torch
    from laboratory import Job, Laboratory, Sampling

    detect = host.part("evaluation.detect").detect
    results: dict[str, list] = {setting.name: [] for setting in SETTINGS}

    def watched(workflow):
        model = workflow.model
        for recorded in dict.fromkeys(setting.recorded for setting in SETTINGS):
            inputs = {**REFERENCE, **dict(recorded)}
            found = host.run_node("SBRecordAttention", model=model, binding=workflow.binding, **inputs)
            model, handles[recorded] = found["MODEL"], found["ATTENTION_MAPS"]
        bindings.append(workflow.binding)
        return replace(workflow, model=model)

    with torch.inference_mode():
        laboratory = Laboratory(Sampling(**judging.settings_of(arguments)), {"watched": watched})
        drawn = host.part("evaluation.prompts").draw_prompts(arguments.set, -(-arguments.images // judging.BATCH))
        for number, prompt in enumerate(drawn):
            handles, bindings = {}, []
            images = range(number * judging.BATCH, (number + 1) * judging.BATCH)
            latents, pictures = laboratory.images(Job(arguments.set, prompt.text, tuple(images)), "watched")
            wanted = laboratory.wanted[prompt.text]
            found = [detect(picture) for picture in pictures]
            right = [laboratory.judge(wanted, things).verdict == "ok" for things in found]
            for setting in SETTINGS:
                of_setting = dict(setting.made)
                inputs = {"maps": handles[setting.recorded], "latent": {"samples": latents}, **of_setting}
                masks = host.run_node("SBMasksFromAttention", binding=bindings[0], **inputs)["SEMANTIC_BINDING"]
                masks = np.stack([entity.mask.numpy() > 0.5 for entity in masks.entities], 1)
                for picture, things in enumerate(found):
                    if len(things) == len(wanted):
                        names = [each.shape for each in wanted]
                        results[setting.name].append(scores(masks[picture], things, names, right[picture]))
            print(f"\r{images[-1] + 1} of {len(drawn) * judging.BATCH} pictures", end="", flush=True)
    print()
    return {name: np.array(rows, float) for name, rows in results.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", default="two_counter", help="prompt set")
    judging.add_arguments(parser, images=240)
    parser.add_argument("--tables", type=Path, default=host.RESULTS / "attention-masks", help="without .md")
    arguments = parser.parse_args()
    records = []
    for name, rows in measured(arguments).items():
        own = rows[~np.isnan(rows[:, 0]), 0]
        errors = [each.std(ddof=1) / len(each) ** 0.5 for each in (own, rows[:, 1])]
        record = {"setting": name, "n_right": len(own), "miou_right": own.mean(), "error_right": errors[0]}
        records.append({**record, "n": len(rows), "miou_paired": rows[:, 1].mean(), "error_paired": errors[1]})
    head = [
        "Mean over pictures of the mean intersection over union of the entities' masks with the things in the picture, "
        "with standard errors. These are no figures of Stable Diffusion.",
        "Right: pictures that are wholly right, where each thing's entity is known. Paired: all pictures with as many "
        "things as entities, paired as suits the masks best.",
        f"Prompts of {arguments.set}, {arguments.images} pictures. {judging.conditions(arguments, float('nan'))}",
    ]
    lines = [
        [
            each["setting"],
            str(each["n_right"]),
            with_error(each["miou_right"], each["error_right"]),
            str(each["n"]),
            with_error(each["miou_paired"], each["error_paired"]),
        ]
        for each in records
    ]
    shown = table(["setting", "n right", "mIoU right ± SE", "n", "mIoU paired ± SE"], lines)
    body = [line for sentence in head for line in (sentence, "")]
    text = "\n".join(["# Masks from attention", "", *body, *shown]) + "\n"
    write_report(
        text,
        [{k: float(v) if isinstance(v, float) else v for k, v in r.items()} for r in records],
        head,
        arguments.tables,
    )
    print(text)


if __name__ == "__main__":
    main()
