"""Where the demo model looks when it draws a noun, before and after LoRAs that train_loras.py has trained.

    .dev/venv/bin/python benchmarks/trained_maps.py [--cases CASE ...] [--set two_counter] [--images 96]

For each thing of a prompt that is drawn: the share of its noun's attention that lies on the thing, and on others, in
the first half of the steps and in the second. The sheet shows the maps of one prompt, a row for each LoRA.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import host
import judging
import numpy as np
from report import table, with_error, write_report
from train_loras import CASES, file_of
from trained import PLAIN, with_lora

HALVES = {"first half": (0.0, 0.5), "second half": (0.5, 1.0)}


def shares(attention: np.ndarray, mask: np.ndarray, others: Sequence[np.ndarray]) -> tuple[float, float]:
    """Of a map (h, w): the shares within a mask (H, W), and within the masks of others."""
    rows, columns = attention.shape
    height, width = mask.shape
    within = [each.reshape(rows, height // rows, columns, width // columns).mean((1, 3)) for each in (mask, *others)]
    own, *rest = [float((attention * part).sum() / attention.sum()) for part in within]
    return own, sum(rest)


def measured(arguments: argparse.Namespace) -> tuple[list[dict], np.ndarray]:
    """A record for each LoRA, and the sheet (H, W, 3) of 0..1."""
    host.start_comfyui(judging.SDPA, "--cpu")
    import torch
    from laboratory import Job, Laboratory, Sampling

    detect = host.part("evaluation.detect").detect
    handles: dict[str, object] = {}

    def watched(make):
        def workflow_of(workflow):
            workflow = make(workflow)
            model = workflow.model
            for half, (start, end) in HALVES.items():
                chosen = {"record": "entities and attributes", "resolution": "all", "start": start, "end": end}
                found = host.run_node("SBRecordAttention", model=model, binding=workflow.binding, **chosen)
                model, handles[half] = found["MODEL"], found["ATTENTION_MAPS"]
            return replace(workflow, model=model)

        return workflow_of

    makers = {PLAIN: lambda workflow: workflow} | {case: with_lora(file_of(case)) for case in arguments.cases}
    laboratory = Laboratory(
        Sampling(**judging.settings_of(arguments)), {name: watched(make) for name, make in makers.items()}
    )
    drawn = host.part("evaluation.prompts").draw_prompts(arguments.set, arguments.images // judging.BATCH)
    records, sheets = [], []
    with torch.inference_mode():
        for name in makers:
            found: dict[str, list] = {half: [] for half in HALVES}
            for number, prompt in enumerate(drawn):
                images = tuple(range(number * judging.BATCH, (number + 1) * judging.BATCH))
                latents, pictures = laboratory.images(Job(arguments.set, prompt.text, images), name)
                latent = {"samples": latents}
                things = [detect(picture) for picture in pictures]
                for half, maps in handles.items():
                    found[half] += _of_pictures(maps.find(latent), things, laboratory.wanted[prompt.text])
                if number == 0:
                    shown = {"maps": handles["second half"], "latent": latent, "images": torch.from_numpy(pictures)}
                    sheets.append(host.run_node("SBPreviewAttention", **shown)["IMAGE"][0].numpy())
            record = {"workflow": name}
            for half, rows in found.items():
                own, others = np.array(rows).T
                error = [each.std(ddof=1) / len(each) ** 0.5 for each in (own, others)]
                record |= {f"{half} n": len(own), f"{half} on it": own.mean(), f"{half} on it error": error[0]}
                record |= {f"{half} on others": others.mean(), f"{half} on others error": error[1]}
            records.append({key: float(each) if isinstance(each, float) else each for key, each in record.items()})
            print(name, flush=True)
    return records, np.concatenate(sheets)


def _of_pictures(recording, things: Sequence[Sequence], wanted: Sequence) -> list[tuple[float, float]]:
    """The shares of the nouns whose shape was drawn once, mean over the grids."""
    rows = []
    for picture, found in enumerate(things):
        for each in wanted:
            mine = [thing.mask for thing in found if thing.shape == each.shape]
            if len(mine) != 1 or each.shape not in recording.labels:
                continue
            place = recording.labels.index(each.shape)
            others = [thing.mask for thing in found if thing.shape != each.shape]
            of_grids = [shares(grid.maps.mean(0)[picture, place].numpy(), mine[0], others) for grid in recording.grids]
            rows.append(tuple(np.mean(of_grids, 0)))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), help="LoRAs to compare")
    parser.add_argument("--set", default="two_counter", help="prompt set")
    judging.add_arguments(parser, images=96)
    parser.add_argument("--tables", type=Path, default=host.RESULTS / "trained-maps", help="without .md")
    arguments = parser.parse_args()
    records, sheet = measured(arguments)
    head = [
        "Share of a noun's attention that lies on its thing, and on other things, where the thing was drawn once; mean "
        "over the grids of the UNet, ± standard error. The bundled demo model; no figures of Stable Diffusion.",
        f"Prompts of {arguments.set}, {arguments.images} pictures. {judging.conditions(arguments, float('nan'))}",
    ]
    titles = [f"{half}, {where}" for half in HALVES for where in ("on it", "on others")]
    lines = [
        [r["workflow"], str(r["first half n"])]
        + [with_error(r[title.replace(",", "")], r[f"{title.replace(',', '')} error"]) for title in titles]
        for r in records
    ]
    body = [line for sentence in head for line in (sentence, "")]
    text = "\n".join(["# Attention after training", "", *body, *table(["LoRA", "things", *titles], lines)]) + "\n"
    write_report(text, records, head, arguments.tables)
    from PIL import Image

    shown = Image.fromarray((sheet * 255).round().astype(np.uint8)).reduce(2)
    shown.save(arguments.tables.with_suffix(".png"), optimize=True)
    print(text)


if __name__ == "__main__":
    main()
