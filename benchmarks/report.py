"""Results as files: a table for reading and its numbers for programs."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np


def number(value: float | None, digits: int = 3, sign: str = "") -> str:
    """The value for a table; nothing where there is none."""
    return "" if value is None or math.isnan(value) else f"{value:{sign}.{digits}f}"


def with_error(value: float | None, error: float | None, sign: str = "") -> str:
    """ "0.650 ± 0.031"; nothing where there is no value."""
    return f"{number(value, sign=sign)} ± {number(error)}" if number(value) else ""


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Lower quartile, median and upper quartile."""
    low, median, high = np.percentile(values, (25, 50, 75))
    return float(low), float(median), float(high)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table."""
    lines = [f"| {' | '.join(cells)} |" for cells in (columns, *rows)]
    return [lines[0], "|" + " --- |" * len(columns), *lines[1:]]


def write_report(text: str, records: Sequence[dict], head: Sequence[str], path: Path) -> None:
    """`text` as `path`.md, and the records under their head as `path`.json (null where there is no number)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".md").write_text(text, encoding="utf-8")
    plain = [{key: None if _is_nan(value) else value for key, value in record.items()} for record in records]
    content = json.dumps({"about": list(head), "rows": plain}, indent=1)
    path.with_suffix(".json").write_text(content + "\n", encoding="utf-8")


def _is_nan(value) -> bool:
    return isinstance(value, float) and math.isnan(value)
