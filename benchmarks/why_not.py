"""Why two of the methods do not do here what their papers say: an experiment for each.

.dev/venv/bin/python benchmarks/why_not.py [--prompts 60]
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path

import host
import numpy as np
from report import table, with_error, write_report

SET = "two_counter"
DENOISE = 0.7
"""The part of the steps for which a picture is drawn again."""


def phrase(wanted) -> str:
    return host.part("world.captions").with_article(f"{wanted.colour} {wanted.shape}")


def change_of_rows(prompts: Sequence) -> dict[str, list[float]]:
    """Structured conditioning gives words the rows of their phrase alone: how far these are from those of the prompt,
    in lengths of the prompt's row; and how far the end tokens, which it leaves, are from those of no prompt."""
    clip = host.run_node("SBLoadDemoModel")["CLIP"]

    def rows(text: str):
        return clip.encode_from_tokens_scheduled(clip.tokenize(text))[0][0][0]

    def apart(one, other) -> np.ndarray:
        return ((one - other).norm(dim=-1) / other.norm(dim=-1)).numpy()

    found: dict[str, list[float]] = {}
    for prompt in prompts:
        whole, place = rows(prompt.text), 1
        for number, wanted in enumerate(prompt.wanted, 1):
            words = len(phrase(wanted).split())
            changes = apart(rows(phrase(wanted))[1 : 1 + words], whole[place : place + words])
            for name, value in zip(("article", "colour", "noun"), changes, strict=True):
                found.setdefault(f"{name} of phrase {number}", []).append(float(value))
            place += words + 1
        found.setdefault("end and padding", []).append(float(apart(rows("")[place - 1 :], whole[place - 1 :]).mean()))
    return found


def kept(prompts: Sequence) -> Iterator[dict[str, list[bool]]]:
    """Of pictures that have both things: whether each is still there when the picture was noised and drawn again, for
    the prompt, for either thing's phrase alone, and for the phrases composed."""
    import torch
    from laboratory import Laboratory, Sampling
    from workflow import Workflow
    from workflows import WORKFLOWS

    laboratory = Laboratory(Sampling(20, 5.0, "euler", "normal", ""))

    def alone(text: str) -> Workflow:
        positive = laboratory.clip.encode_from_tokens_scheduled(laboratory.clip.tokenize(text))
        return Workflow(laboratory.model, laboratory.clip, positive, None)

    def there(latent, prompt) -> list[bool]:
        score = laboratory.judge(prompt.wanted, laboratory.detect(laboratory.pictures(latent)[0]))
        return [outcome.found is not None for outcome in score.judged]

    for seed, prompt in enumerate(prompts):
        plain = laboratory.bound(prompt.text)
        latent = laboratory.finished(plain, torch.zeros(1, 4, 16, 16), seed, 1.0)
        if not all(there(latent, prompt)):
            continue
        ways = {
            "the prompt": plain,
            "the first phrase alone": alone(phrase(prompt.wanted[0])),
            "the second phrase alone": alone(phrase(prompt.wanted[1])),
            "the phrases composed": WORKFLOWS["composed noise"](plain),
        }
        found = {}
        for name, workflow in ways.items():
            found[name] = there(laboratory.finished(workflow, latent, seed + 1000, DENOISE), prompt)
        yield found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=60)
    parser.add_argument("--tables", type=Path, default=host.RESULTS / "why-not", help="without .md")
    arguments = parser.parse_args()
    host.start_comfyui("--cpu")
    import torch

    prompts = host.part("evaluation.prompts").draw_prompts(SET, arguments.prompts)
    with torch.inference_mode():
        changes, pictures = change_of_rows(prompts), list(kept(prompts))
    mean_and_error = host.part("evaluation.score").mean_and_error
    records = []
    for name, values in changes.items():
        mean, error = mean_and_error(values)
        records.append({"row": name, "n": len(values), "change": mean, "change_error": error})
    rows = [[each["row"], str(each["n"]), with_error(each["change"], each["change_error"])] for each in records]
    still = []
    for name in pictures[0]:
        first, second = (mean_and_error([float(each[name][place]) for each in pictures]) for place in (0, 1))
        still.append([name, str(len(pictures)), with_error(*first), with_error(*second)])
        shares = {"first": first[0], "first_error": first[1], "second": second[0], "second_error": second[1]}
        records.append({"drawn again for": name, "n": len(pictures), **shares})
    head = [
        f"On the bundled demo model, {len(prompts)} prompts of the set {SET}. {host.machine()}. "
        f"{date.today().isoformat()}."
    ]
    lines = [
        "# Why not",
        "",
        *head,
        "",
        "## Structured Diffusion",
        "",
        "Words are given the rows of their phrase alone, as values. How far these are from the rows of the prompt, in "
        "lengths of the latter; of the end token and padding, which stay as they are, how far they are from those of "
        "an empty prompt.",
        "",
        *table(["row", "n", "change"], rows),
        "",
        "CLIP's text encoder looks back only, so nothing of the first phrase changes; and the rows that know all "
        "colours are left as they are.",
        "",
        "## Composable Diffusion",
        "",
        f"Pictures that have both things of their prompt, noised and drawn again for {DENOISE:.0%} of the steps. Share "
        "in which the first and the second thing are still there.",
        "",
        *table(["drawn again for", "n", "first thing", "second thing"], still),
        "",
        "In pictures of one thing the rest is ground, so each part's prediction takes away what the other's puts "
        "there. The prompt as a whole keeps both.",
    ]
    write_report("\n".join(lines) + "\n", records, head, arguments.tables)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
