"""The figures of `subjects.py` as tables, a chart and sheets of samples."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path

import host
import numpy as np
from report import table, with_error
from subject_cases import (
    ADAPTED_TEXT,
    BESIDE_TEXT,
    BY_ATTENTION,
    CFG,
    IN_BOXES,
    IN_FOCUSED_BOXES,
    OTHERS,
    STEPS,
    TWO_SUBJECTS,
    TWO_TEXT,
    USUAL_DELAY,
    Case,
)

TITLE_WIDTH = 20
"""Characters of a line above a sample."""
MEASURES = ("identity", "both", "blending", "adherence")
Samples = Mapping[tuple[str, int], np.ndarray]


def about(adapters: Sequence[Path]) -> list[str]:
    """What the figures are of."""
    digests = " and ".join(host.file_digest(adapter) for adapter in adapters)
    return [
        "Subjects of the bundled demo model. These are no figures of Stable Diffusion. Subjects, references and noise "
        "of a picture are the same in every case; ± is the standard error.",
        f"Identity: share of subjects whose shape is there once and fits the subject better than {OTHERS} others of "
        f"that shape (by chance {1 / (OTHERS + 1):.3f}). Both: the share of pictures where all are. Blending: share of "
        "a subject's pixels nearer to a colour of the other's. Adherence: the other thing of the prompt is there in "
        "its colour, and the subject's shape.",
        f"Adapter {digests}, euler normal, {STEPS} steps, CFG {CFG:g}, delay {USUAL_DELAY:g} where none is given. "
        f"{host.machine()}. {date.today().isoformat()}.",
    ]


def values_of(row: dict) -> dict[str, float]:
    """A picture's measures; those it does not have are left out."""
    values = {"identity": float(np.mean(row["identity"])), "both": float(all(row["identity"]))}
    if row["blending"]:
        values["blending"] = float(np.mean(row["blending"]))
    if "adherence" in row:
        values["adherence"] = float(row["adherence"])
    return values


def mean(values: Sequence[float]) -> tuple[float, float]:
    """Mean and its standard error."""
    if len(values) < 2:
        return math.nan, math.nan
    return float(np.mean(values)), float(np.std(values, ddof=1) / len(values) ** 0.5)


def summarised(case: Case, rows: Sequence[dict]) -> dict:
    """Rates of a case over its pictures."""
    record = {"case": case.name, "n": len(rows), "delay": case.delay, "localisation": case.localisation}
    found = [values_of(row) for row in rows]
    for name in MEASURES:
        record[name], record[f"{name}_error"] = mean([values[name] for values in found if name in values])
    return record


def rates(cases: Sequence[Case], rows: Mapping[str, Sequence[dict]]) -> tuple[list[str], list[dict]]:
    """The table of all cases as lines, and its records."""
    records = [summarised(case, rows[case.name]) for case in cases]
    lines = [
        [each["case"], str(each["n"]), *(with_error(each[name], each[f"{name}_error"]) for name in MEASURES)]
        for each in records
    ]
    return table(["case", "n", *MEASURES], lines), records


def pairs(rows: Mapping[str, Sequence[dict]], compared: Sequence[tuple[str, str]]) -> tuple[list[str], list[dict]]:
    """The table of paired differences of the cases that there are as lines, and its records. A measure counts where
    both pictures have it: blending where the shapes are there."""
    lines, records = [], []
    for case, other in compared:
        if case in rows and other in rows:
            both = [(values_of(a), values_of(b)) for a, b in zip(rows[case], rows[other], strict=True)]
            cells, record = [], {"case": case, "less": other}
            for name in MEASURES:
                differences = [a[name] - b[name] for a, b in both if name in a and name in b]
                difference, error = mean(differences)
                cells.append(
                    f"{with_error(difference, error, sign='+')} (n = {len(differences)})" if differences else ""
                )
                record |= {name: difference, f"{name}_error": error, f"{name}_n": len(differences)}
            lines.append([case, other, *cells])
            records.append(record)
    return (table(["case", "less", *MEASURES], lines) if lines else []), records


def by_fill(cases: Sequence[Case], rows: Mapping[str, Sequence[dict]], fills: Sequence[Sequence[str]]) -> list[str]:
    """The table of each case's identity by fill, which is given for each picture's subjects; two of one fill in a
    picture count as their mean."""
    names, lines = sorted({fill for of_picture in fills for fill in of_picture}), []
    for case in cases:
        cells = []
        for name in names:
            found = [
                [known for known, fill in zip(row["identity"], of_picture, strict=False) if fill == name]
                for row, of_picture in zip(rows[case.name], fills, strict=True)
            ]
            values = [float(np.mean(each)) for each in found if each]
            cells.append(f"{with_error(*mean(values))} (n = {len(values)})")
        lines.append([case.name, *cells])
    return table(["case", *names], lines)


def draw_delays(records, shown: Samples, delays: Sequence[float], images: Sequence[int], path: Path) -> None:
    """Identity and adherence over the delay with their errors, above pictures of each delay."""
    from matplotlib.figure import Figure

    by_case = {record["case"]: record for record in records}
    columns = ["reference 1", *(f"delay {delay:g}" for delay in delays), BESIDE_TEXT]
    figure = Figure(figsize=(11, 4.6 + 1.25 * len(images)), layout="constrained")
    grid = figure.add_gridspec(1 + len(images), len(columns), height_ratios=[3.4, *[1] * len(images)])
    axes = figure.add_subplot(grid[0, :])
    for name, label in (("identity", "identity of the subject"), ("adherence", "adherence to the text")):
        values, errors = ([by_case[f"delay {delay:g}"][key] for delay in delays] for key in (name, f"{name}_error"))
        axes.errorbar(delays, values, errors, marker="o", capsize=3, label=label)
    for case, style, label in ((BESIDE_TEXT, ":", "the demo model's"), (ADAPTED_TEXT, "--", "the adapter's")):
        alone = by_case[case]["adherence"]
        axes.axhline(alone, linestyle=style, color="grey", label=f"adherence of the text alone by {label} UNet")
    axes.set(xlabel="delay: share of the steps with the text alone", ylabel="share of pictures", ylim=(0, 1))
    axes.legend(frameon=False)
    _sheet(figure, grid, 1, columns, shown, images)
    figure.savefig(path, dpi=100)


def draw_two(shown: Samples, images: Sequence[int], path: Path) -> None:
    """Two subjects: their references and the pictures of each case."""
    from matplotlib.figure import Figure

    columns = ["reference 1", "reference 2", TWO_TEXT, TWO_SUBJECTS, BY_ATTENTION, IN_BOXES, IN_FOCUSED_BOXES]
    figure = Figure(figsize=(11, 1.9 * len(images)), layout="constrained")
    _sheet(figure, figure.add_gridspec(len(images), len(columns)), 0, columns, shown, images)
    figure.savefig(path, dpi=100)


def _sheet(figure, grid, first_row: int, columns: Sequence[str], shown: Samples, images: Sequence[int]) -> None:
    """A row of pictures for each of ``images``, under the columns' names."""
    for row, image in enumerate(images):
        for column, name in enumerate(columns):
            axes = figure.add_subplot(grid[first_row + row, column])
            axes.imshow(np.clip(shown[name, image], 0.0, 1.0), interpolation="nearest")
            axes.set_xticks([])
            axes.set_yticks([])
            if row == 0:
                axes.set_title(textwrap.fill(name, TITLE_WIDTH), fontsize=8)
