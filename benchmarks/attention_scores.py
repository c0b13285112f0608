"""How well recorded attention alone predicts whether the demo model's pictures bind what their prompts bind.

    .dev/venv/bin/python benchmarks/attention_scores.py [--prompts 32] [--sets two_counter ...]

Pictures are kept under output/ with their recordings and not made again. The figures are of the demo model in its world
of shapes, never of Stable Diffusion.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path

import attention_pictures
import host
import numpy as np
from attention_candidates import (
    RIGHT,
    TARGETS,
    Candidate,
    Pictures,
    areas,
    best_shares,
    candidates_of,
    combinations_of,
    pictures_of,
)
from attention_pictures import GROUP, SAMPLING
from report import number, table, with_error, write_report

SETS = ("two_fav", "two_counter", "two_swap", "three", "four", "two_marked")
SHOWN = 3
"""The best measures, of which more is told."""
DIGITS = 4
Scores = Mapping[Candidate, np.ndarray]


def shown(areas_found: Mapping[str, dict], target: str, of: str) -> str:
    return with_error(*areas_found[target][of])


def pictures_table(pictures: Pictures) -> list[str]:
    """What there is to predict."""
    rows = []
    for name in (*dict.fromkeys(pictures.sets), "all"):
        own = np.full(len(pictures.sets), True) if name == "all" else pictures.sets == name
        shares = [number(float(np.nanmean(pictures.reached[target][own]))) for target in TARGETS]
        rows.append([name, str(own.sum()), *shares])
    return table(["set", "n", *TARGETS], rows)


def areas_table(first: Sequence[str], rows: Mapping[tuple[str, ...], Mapping[str, dict]]) -> list[str]:
    """A row for each score: its areas for all targets, among all pictures and within prompts."""
    columns = [f"{target}{of}" for target in TARGETS for of in ("", " (same prompt)")]
    cells = [
        [*names, *(shown(found, target, of) for target in TARGETS for of in ("area", "within"))]
        for names, found in rows.items()
    ]
    return table([*first, *columns], cells)


def best_of_table(scores: Mapping[str, np.ndarray | None], pictures: Pictures, which: np.ndarray) -> list[str]:
    """How often the best of several by each score is right."""
    rows = [
        [name, *(with_error(*share) for share in best_shares(each, pictures, which).values())]
        for name, each in scores.items()
    ]
    return table(["the best of", "1", "2", "4", "8"], rows)


def told(candidate: Candidate) -> str:
    return f"{candidate.measure}, {candidate.reduction} ({', '.join(candidate[2:])})"


def markdown(head: Sequence[str], scores: Scores, pictures: Pictures) -> tuple[str, list[dict]]:
    """The report, and a record for each candidate."""
    every = {candidate: areas(each, pictures) for candidate, each in scores.items()}
    plain = {c: found for c, found in every.items() if c[3:] == Candidate("", "")[3:]}
    half = {c: areas(scores[c], pictures, pictures.choosing)[RIGHT]["within"][0] for c in scores}
    ranked = sorted(scores, key=half.get, reverse=True)
    best = list({(c.measure, c.reduction, c.words): c for c in reversed(ranked) if c in plain}.values())[::-1][:SHOWN]
    best = sorted(best, key=half.get, reverse=True)
    combined = combinations_of(scores, list(plain), pictures)
    other = ~pictures.choosing
    chosen = {
        f"best of the {len(scores)}: {told(ranked[0])}": scores[ranked[0]],
        f"best of the {len(plain)}: {told(best[0])}": scores[best[0]],
        f"logistic, all {len(plain)}": combined["all"][1],
        "logistic, " + "; ".join(f"{c.measure}, {c.reduction} of {c.words}" for c in combined["few"][0]): combined[
            "few"
        ][1],
    }
    early = max((c for c in scores if c.window == "first third" and c.resolution == "latent"), key=half.get)
    lines = [
        "# Scores from attention",
        "",
        *(line for sentence in head for line in (sentence, "")),
        "## What there is to predict",
        "",
        "Share of the pictures. The last column is of those with nothing left out.",
        "",
        *pictures_table(pictures),
        "",
        "## Every measure",
        "",
        "Areas under the ROC curve with standard errors (jackknife over prompts): how probably a picture that reached "
        'what the column says has a higher score than one that did not; 0.5 is chance. "Same prompt" compares '
        "pictures of one prompt alone. Of the mean map over all steps, grid of the latent.",
        "",
        *areas_table(
            ["measure", "of parts", "words"], {(c.measure, c.reduction, c.words): found for c, found in plain.items()}
        ),
        "",
        f"## Steps and layers, of the best {SHOWN}",
        "",
        *areas_table(
            ["measure", "of parts", "words", "layers", "steps", "taken"],
            {tuple(c): every[c] for each in best for c in scores if c[:3] == each[:3]},
        ),
        "",
        f"## By set, of the best {SHOWN}",
        "",
        *areas_table(
            ["measure", "of parts", "words", "set"],
            {
                (*c[:3], name): areas(scores[c], pictures, pictures.sets == name)
                for c in best
                for name in dict.fromkeys(pictures.sets)
            },
        ),
        "",
        "## Chosen on one half of the prompts, measured on the other",
        "",
        "Chosen, or fitted, by the area within prompts for pictures that are wholly right.",
        "",
        *areas_table(["score"], {(name,): areas(each, pictures, other) for name, each in chosen.items()}),
        "",
        "## The best of several pictures",
        "",
        "Share of prompts, of the half that nothing was chosen on, for which the picture with the highest score among "
        "so many is wholly right, with standard errors over prompts.",
        "",
        *best_of_table(
            {**chosen, f"first third of the steps: {told(early)}": scores[early], "any of them is right": None},
            pictures,
            other,
        ),
    ]
    return "\n".join(lines) + "\n", [record(c, found, half[c]) for c, found in every.items()]


def record(candidate: Candidate, found: Mapping[str, dict], half: float) -> dict:
    """All that was measured of a candidate, in plain values."""
    values = {"within_prompts_on_the_half_for_choosing": half}
    for target, each in found.items():
        values[f"{target}: n"] = each["n"]
        for of in ("area", "within"):
            values |= dict(zip((f"{target}: {of}", f"{target}: {of}_error"), each[of], strict=True))
    return candidate._asdict() | {name: round(value, DIGITS) for name, value in values.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sets = host.part("evaluation.prompts").PROMPT_SETS
    parser.add_argument("--sets", nargs="+", choices=sets, default=list(SETS), help="prompt sets")
    attention_pictures.add_arguments(parser)
    parser.add_argument("--tables", type=Path, default=host.RESULTS / "attention-scores", help="without .md")
    arguments = parser.parse_args()
    groups = attention_pictures.recorded_pictures(arguments, arguments.sets)
    pictures, found = pictures_of(groups), defaultdict(list)
    for group in groups:
        for candidate, scores in candidates_of(group):
            found[candidate].append(scores)
    scores = {candidate: np.concatenate(each) for candidate, each in found.items()}
    head = [
        "How well recorded attention alone predicts whether a picture of the bundled demo model is right. These are no "
        "figures of Stable Diffusion.",
        f"{len(pictures.prompts)} pictures, {GROUP} of each of {arguments.prompts} prompts of the sets "
        f"{', '.join(arguments.sets)}. Model {attention_pictures.model_digest()}, {SAMPLING['sampler']} "
        f"{SAMPLING['scheduler']}, {SAMPLING['steps']} steps, CFG {SAMPLING['cfg']:g}. {host.machine()}. "
        f"{date.today().isoformat()}.",
    ]
    text, records = markdown(head, scores, pictures)
    write_report(text, records, head, arguments.tables)
    print(text)


if __name__ == "__main__":
    main()
