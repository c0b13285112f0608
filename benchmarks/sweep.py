"""Self-attention temperature by its value and by the steps that have it: a table of binding, as a picture.

    .dev/venv/bin/python benchmarks/sweep.py [--temperatures 0.5 0.8 ...] [--starts 0 4 ...] [--window 4] [--images 60]

Rows are temperatures, columns the steps that have them: `window` steps from each start on, and the whole run. Every
cell has the same prompts and noise, and shows one picture of the same prompt and noise. Images are judged and kept as
by binding.py. The figures are of the demo model in its world of shapes, never of Stable Diffusion.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import host
import judging
import numpy as np
from binding_table import compare
from picture_table import Cell, draw_table
from report import table, with_error, write_report
from workflows import WORKFLOWS

TEMPERATURES = (0.5, 0.65, 0.8, 1.0, 1.25, 1.5, 2.0)
STARTS = (0, 2, 4, 8, 12)


@dataclass(frozen=True)
class Sweep:
    """A row for each temperature, and a column for each range of steps out of all ``steps``."""

    temperatures: tuple[float, ...]
    columns: tuple[range, ...]
    steps: int

    @property
    def row_titles(self) -> list[str]:
        return [f"{temperature:g}" for temperature in self.temperatures]

    @property
    def column_titles(self) -> list[str]:
        return [f"steps {span.start + 1} to {span.stop}" for span in self.columns]

    @property
    def names(self) -> list[list[str]]:
        """The workflow of each cell; temperature 1 changes nothing."""
        return [
            ["plain" if title == "1" else f"temperature {title}, {span}" for span in self.column_titles]
            for title in self.row_titles
        ]

    @property
    def workflows(self) -> judging.Workflows:
        """ "plain" and those of the cells, by name."""
        found = {}
        for temperature, names in zip(self.temperatures, self.names, strict=True):
            for span, name in zip(self.columns, names, strict=True):
                found[name] = self._heated(temperature, span.start / self.steps, span.stop / self.steps)
        return {**found, "plain": WORKFLOWS["plain"]}

    @staticmethod
    def _heated(temperature: float, start: float, end: float):
        return lambda workflow: workflow.through(
            "SBSelfAttentionTemperature", temperature=temperature, start=start, end=end
        )


def columns_of(starts: Sequence[int], window: int, steps: int) -> tuple[range, ...]:
    """The steps of each column; the last has all of them."""
    return *(range(start, min(start + window, steps)) for start in starts), range(steps)


def samples(arguments: argparse.Namespace, cases: judging.Workflows) -> tuple[str, dict[str, np.ndarray]]:
    """The prompt of image `sample`, and its picture (H, W, 3) by each workflow."""
    host.start_comfyui(*([] if arguments.gpu else ["--cpu"]))
    import torch
    from laboratory import Job, Laboratory, Sampling

    drawn = host.part("evaluation.prompts").draw_prompts(arguments.set, arguments.sample // judging.BATCH + 1)
    job = Job(arguments.set, drawn[-1].text, (arguments.sample,))
    with torch.inference_mode():
        laboratory = Laboratory(Sampling(**judging.settings_of(arguments)), cases)
        return job.text, {case: laboratory.images(job, case)[1][0] for case in cases}


def lines_of(record: dict) -> tuple[str, str]:
    """The share that is right, and the difference to plain."""
    difference = with_error(record.get("difference"), record.get("difference_error"), sign="+")
    return with_error(record["rate"], record["standard_error"]), difference or "plain"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", default="two_half", help="prompt set")
    parser.add_argument("--temperatures", nargs="+", type=float, default=TEMPERATURES, help="rows; 1 is plain")
    parser.add_argument("--starts", nargs="+", type=int, default=STARTS, help="steps at which columns start, from 0")
    parser.add_argument("--window", type=int, default=4, help="steps of a column")
    parser.add_argument("--sample", type=int, default=0, help="number of the image that every cell shows")
    judging.add_arguments(parser, images=60)
    parser.add_argument(
        "--tables", type=Path, default=host.RESULTS / "temperature-sweep", help="where the tables go, without .md"
    )
    arguments = parser.parse_args()
    if not all(0 <= start < arguments.steps for start in arguments.starts) or arguments.window < 1:
        parser.error(f"--starts must be steps from 0 to {arguments.steps - 1}, and --window at least 1.")
    columns = columns_of(arguments.starts, arguments.window, arguments.steps)
    sweep = Sweep(tuple(arguments.temperatures), columns, arguments.steps)
    rows, rate = judging.judged_images(arguments, {arguments.set: sweep.workflows})
    prompt, pictures = samples(arguments, sweep.workflows)
    about = [
        f"Share of images of {arguments.set} that the bundled demo model draws wholly right, and the paired "
        "difference to plain, both with standard errors, by temperature and by the steps that have it; "
        f"{arguments.images} images a cell. These are no figures of Stable Diffusion.",
        f'Every picture: "{prompt}", from the noise of seed {arguments.sample}.',
        judging.conditions(arguments, rate),
    ]
    records = compare(rows, [arguments.set], list(sweep.workflows), range(arguments.first, arguments.images))
    write(sweep, records, pictures, about, arguments.tables)


def write(
    sweep: Sweep, records: Sequence[dict], pictures: Mapping[str, np.ndarray], about: Sequence[str], path: Path
) -> None:
    """`path`.png, .md and .json of records and pictures by workflow."""
    by_name = {record["workflow"]: record for record in records}
    lines = {each: lines_of(record) for each, record in by_name.items()}
    body = [
        [title, *(", ".join(lines[name]) for name in names)]
        for title, names in zip(sweep.row_titles, sweep.names, strict=True)
    ]
    head = [line for sentence in about for line in (sentence, "")]
    shown = f"![The same with a picture in each cell]({path.name}.png)"
    numbers = table(["temperature", *sweep.column_titles], body)
    text = "\n".join(["# Self-attention temperature", "", *head, shown, "", *numbers]) + "\n"
    write_report(text, records, about, path)
    cells = [
        [Cell(pictures[name], lines[name], by_name[name].get("difference", 0.0)) for name in names]
        for names in sweep.names
    ]
    sheet = draw_table("temperature", sweep.column_titles, sweep.row_titles, cells, about)
    sheet.save(path.with_suffix(".png"))
    print(text)


if __name__ == "__main__":
    main()
