"""The table of a benchmark: each workflow's scores, and its difference to the first workflow picture by picture."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

from ..score import mean_and_error
from . import multigen, visor
from .judges import OBJECT, RELATION
from .prompt import Prompt
from .rows import Picture, Row

ALL = "all"


@dataclass(frozen=True)
class Line:
    """One workflow on the prompts of one category, or all.

    ``n`` pictures were judged, with ``mean`` score and its standard ``error``; ``difference`` is the mean difference to
    the first workflow's pictures of the same prompt, seed and place in the batch, of which there are ``pairs``. nan
    where there is none.
    """

    workflow: str
    category: str
    n: int
    mean: float
    error: float
    difference: float
    difference_error: float
    pairs: int


@dataclass(frozen=True)
class Table:
    """``multigen``: MG_k and its spread; ``visor``: its scores, by workflow, where the prompts and the judge allow."""

    lines: tuple[Line, ...]
    multigen: dict[str, dict[int, tuple[float, float]]]
    visor: dict[str, visor.Scores]


def table_of(rows: Sequence[Row], workflows: Sequence[str]) -> Table:
    """The table of rows, its workflows in the given order; with the categories of the prompts if there are several."""
    categories = list(dict.fromkeys(row.prompt.category for row in rows))
    wanted = [ALL, *(categories if len(categories) > 1 else ())]
    lines = tuple(
        _line(rows, category, workflow, workflows[0])
        for category in wanted
        for workflow in workflows
        if any(_is_in(row, category, workflow) for row in rows)
    )
    of_each = {workflow: [row for row in rows if row.workflow == workflow] for workflow in workflows}
    return Table(
        lines,
        {name: found for name, each in of_each.items() if (found := _multigen(each))},
        {name: found for name, each in of_each.items() if (found := _visor(each))},
    )


def _is_in(row: Row, category: str, workflow: str) -> bool:
    return row.workflow == workflow and category in (ALL, row.prompt.category)


def _scores(rows: Iterable[Row], category: str, workflow: str) -> dict[tuple[str, int, int], float]:
    return {
        (row.prompt.text, row.seed, place): picture.judged.score
        for row in rows
        if _is_in(row, category, workflow)
        for place, picture in enumerate(row.pictures)
        if picture.judged.score is not None
    }


def _line(rows: Sequence[Row], category: str, workflow: str, first: str) -> Line:
    own, plain = _scores(rows, category, workflow), _scores(rows, category, first)
    both = [] if workflow == first else [key for key in own if key in plain]
    mean, error = mean_and_error(list(own.values()))
    difference, its_error = mean_and_error([own[key] - plain[key] for key in both])
    return Line(workflow, category, len(own), mean, error, difference, its_error, len(both))


def _asked(picture: Picture, kind: str) -> list[bool]:
    return [each["probability"] > 0.5 for each in picture.judged.questions if each["kind"] == kind]


def _numbered(rows: Iterable[Row]) -> Iterable[tuple[Prompt, list[Picture]]]:
    """The pictures of each prompt in the order of their seeds."""
    ordered = sorted(rows, key=lambda row: (row.prompt.text, row.seed))
    for _, each in groupby(ordered, key=lambda row: row.prompt.text):
        of_prompt = list(each)
        yield of_prompt[0].prompt, [picture for row in of_prompt for picture in row.pictures]


def _multigen(rows: Sequence[Row]) -> dict[int, tuple[float, float]]:
    counts: dict[int, list[int]] = {}
    for prompt, pictures in _numbered(rows):
        if len(prompt.objects) == multigen.OBJECTS:
            for place, picture in enumerate(pictures):
                if len(found := _asked(picture, OBJECT)) == multigen.OBJECTS:
                    counts.setdefault(place, []).append(sum(found))
    return multigen.scores(counts) if counts else {}


def _visor(rows: Sequence[Row]) -> visor.Scores | None:
    seen = [
        [visor.Seen(all(_asked(picture, OBJECT)), all(_asked(picture, RELATION))) for picture in pictures]
        for prompt, pictures in _numbered(rows)
        if prompt.relation and all(len(_asked(picture, RELATION)) for picture in pictures)
    ]
    return visor.scores(seen) if seen else None


def markdown(table: Table, about: Sequence[str]) -> str:
    """The table for reading, under some lines that say what it is about."""
    first = table.lines[0].workflow if table.lines else ""
    parts = ["\n".join(f"- {line}" for line in about)]
    for category, lines in groupby(table.lines, key=lambda line: line.category):
        title = "" if category == ALL else f"## {category}\n\n"
        cells = [
            (
                line.workflow,
                str(line.n),
                with_error(line.mean, line.error),
                with_error(line.difference, line.difference_error, "+"),
                str(line.pairs or ""),
            )
            for line in lines
        ]
        parts.append(title + _table(("workflow", "n", "score", f"difference to {first}", "pairs"), cells))
    if table.multigen:
        names = [f"MG{k}" for k in range(1, multigen.OBJECTS + 1)]
        cells = [
            (name, *(f"{number(share, digits=2)} ± {number(spread, digits=2)}" for share, spread in found.values()))
            for name, found in table.multigen.items()
        ]
        parts.append(f"## MULTIGEN\n\n{_table(('workflow', *names), cells)}")
    if table.visor:
        most = max(len(found.at_least) for found in table.visor.values())
        names = ("workflow", "OA", "cond", "uncond", *(f"VISOR{n}" for n in range(1, most + 1)))
        cells = [
            (name, *(number(value, digits=2) for value in _of_visor(found)), *("",) * (most - len(found.at_least)))
            for name, found in table.visor.items()
        ]
        parts.append(f"## VISOR\n\n{_table(names, cells)}")
    return "\n\n".join(parts) + "\n"


def as_json(table: Table, about: Sequence[str]) -> str:
    """The same for programs; null where there is no number."""
    told = {
        "about": list(about),
        "rows": [asdict(line) for line in table.lines],
        "multigen": {
            name: {f"MG{k}": {"percent": share, "std": spread} for k, (share, spread) in found.items()}
            for name, found in table.multigen.items()
        },
        "visor": {name: asdict(found) for name, found in table.visor.items()},
    }
    return json.dumps(_without_nan(told), indent=1, ensure_ascii=False) + "\n"


def _of_visor(found: visor.Scores) -> tuple[float, ...]:
    return found.object_accuracy, found.conditional, found.unconditional, *found.at_least


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(each) for each in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |" for cells in (columns, *rows)]
    return "\n".join([lines[0], "|" + " --- |" * len(columns), *lines[1:]])


def number(value: float, sign: str = "", digits: int = 3) -> str:
    """The value for a table; nothing where there is none."""
    return "" if math.isnan(value) else f"{value:{sign}.{digits}f}"


def with_error(value: float, error: float, sign: str = "") -> str:
    """ "0.650 ± 0.031"; without an error where there is none."""
    return f"{number(value, sign)}{f' ± {number(error)}' if number(error) else ''}"
