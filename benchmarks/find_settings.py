"""Settings of each method for the demo model, compared on prompts that no claim is measured on.

.dev/venv/bin/python benchmarks/find_settings.py [--only METHOD ...] [--images 96]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import host
import judging
from candidates import CANDIDATES
from claims import MEASURES
from report import table, with_error, write_report
from workflows import WORKFLOWS

ALWAYS = ("wholly right", "things present", "malformed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=CANDIDATES, default=list(CANDIDATES), help="methods")
    judging.add_arguments(parser, images=96)
    parser.add_argument("--tables", type=Path, default=host.RESULTS / "settings", help="where the tables go")
    arguments = parser.parse_args()
    wanted: dict[str, dict] = {}
    for method in arguments.only:
        prompt_set, _, settings = CANDIDATES[method]
        named = {f"{method}: {name}": make for name, make in settings.items()}
        wanted.setdefault(prompt_set, {"plain": WORKFLOWS["plain"]}).update(named)
    rows, rate = judging.judged_images(arguments, wanted)
    mean_and_error = host.part("evaluation.score").mean_and_error
    head = [
        "Settings compared on prompts of their own; no figures of Stable Diffusion.",
        judging.conditions(arguments, rate),
    ]
    records, lines = [], []
    for method in arguments.only:
        prompt_set, measure, settings = CANDIDATES[method]
        for name in ("plain", *(f"{method}: {each}" for each in settings)):
            mine = [
                r
                for r in rows
                if r.prompt_set == prompt_set
                and r.workflow == name
                and r.image in range(arguments.first, arguments.images)
            ]
            found = {each: mean_and_error([float(MEASURES[each](row)) for row in mine]) for each in (measure, *ALWAYS)}
            records.append(
                {
                    "method": method,
                    "settings": name,
                    "set": prompt_set,
                    "n": len(mine),
                    **{k: v[0] for k, v in found.items()},
                }
            )
            shown = [with_error(*found[each]) for each in (measure, *ALWAYS)]
            lines.append([method, name.removeprefix(f"{method}: "), prompt_set, str(len(mine)), measure, *shown])
    columns = ["method", "settings", "prompts", "n", "measure", "measure ± SE", *ALWAYS]
    body = [line for sentence in head for line in (sentence, "")]
    text = "\n".join(["# Settings", "", *body, *table(columns, lines)]) + "\n"
    write_report(text, records, head, arguments.tables)
    print(text)


if __name__ == "__main__":
    main()
