"""Subjects of the demo model: are they drawn, kept apart, and what is left of the text?

    .dev/venv/bin/python benchmarks/subjects.py [--images 240] [--cases "one subject" ...]

Every picture has subjects and noise of its own, the same in every case. Measured pictures are kept under output/ and
not made again. Tables go to results/subjects.md, with a chart and samples beside it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import host
import numpy as np
from report import write_report
from subject_cases import CASES, COMPARED, DELAYS, Case
from subject_pictures import ADAPTER, Studio, add_arguments, measured_pictures, start, task_of
from subject_report import about, by_fill, draw_delays, draw_two, pairs, rates

SAMPLES = (0, 1, 2)
"""Numbers of the pictures that are shown."""


def samples(cases: Sequence[Case]) -> dict[tuple[str, int], np.ndarray]:
    """Pictures (H, W, 3) of some numbers, and under the cases' names "reference 1" and "reference 2" what they had."""
    start()
    import torch

    with torch.inference_mode():
        studio = Studio(ADAPTER)
        shown = {(case.name, image): studio.picture(case, image) for image in SAMPLES for case in cases}
    for image in SAMPLES:
        for number, picture in enumerate(task_of(image).references, 1):
            shown[f"reference {number}", image] = picture
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--cases", nargs="+", choices=[case.name for case in CASES], help="all by default")
    parser.add_argument("--tables", type=Path, default=host.RESULTS / "subjects", help="without .md")
    arguments = parser.parse_args()
    cases = [case for case in CASES if arguments.cases is None or case.name in arguments.cases]
    [rows] = measured_pictures(arguments, cases, [ADAPTER])
    head = about([ADAPTER])
    table, records = rates(cases, rows)
    compared, differences = pairs(rows, COMPARED)
    lines = ["# Subjects", "", *(line for each in head for line in (each, "")), *table]
    if compared:
        lines += ["", "Paired differences, picture by picture:", "", *compared]
    fills = [[subject.fill for subject in task_of(image).subjects] for image in range(arguments.images)]
    lines += ["", "Identity by what the subjects are filled with:", "", *by_fill(cases, rows, fills)]
    if arguments.cases is None:
        shown, stem = samples(cases), arguments.tables
        draw_delays(records, shown, DELAYS, SAMPLES, stem.with_name(f"{stem.name}-delay.png"))
        draw_two(shown, SAMPLES, stem.with_name(f"{stem.name}-two.png"))
        lines += ["", f"![Identity and adherence by delay, and samples]({stem.name}-delay.png)"]
        lines += ["", f"![Two subjects: references and pictures]({stem.name}-two.png)"]
    text = "\n".join(lines) + "\n"
    write_report(text, [*records, *differences], head, arguments.tables)
    print(text)


if __name__ == "__main__":
    main()
