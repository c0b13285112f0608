"""The card's tables, from the verdicts that `measure.py` keeps of its pictures."""

from collections import Counter

import numpy as np

from ..evaluation.marks import MARK_FATES, PRESENT
from ..evaluation.score import mean_and_error
from ..world.names import COLOURS

Rows = list[dict]


def colour_rates(rows: Rows) -> dict[str, float]:
    """How often the first and the last thing's colour were drawn, and (by chance) a colour not asked for."""
    absent = [np.mean([colour in row["drawn"] for colour in COLOURS if colour not in row["asked"]]) for row in rows]
    return {
        "first": float(np.mean([row["asked"][0] in row["drawn"] for row in rows])),
        "last": float(np.mean([row["asked"][-1] in row["drawn"] for row in rows])),
        "absent": float(np.mean(absent)),
    }


def rate(hits: list[bool]) -> str:
    """A share with its standard error."""
    return "{:.3f} ± {:.3f}".format(*mean_and_error(hits))


def verdict_table(cells: dict[str, Rows]) -> list[str]:
    """Rate right with its standard error, share of things right, other verdicts."""
    lines = ["| cell | n | right | things right | other verdicts |", "|---|---|---|---|---|"]
    for name, rows in cells.items():
        verdicts = Counter(row["verdict"] for row in rows)
        del verdicts["ok"]
        others = ", ".join(f"{verdict} {count / len(rows):.3f}" for verdict, count in verdicts.most_common())
        if name.startswith("leakage"):
            others = ", ".join(f"{key} colour {value:.3f}" for key, value in colour_rates(rows).items())
        right = np.mean([row["right"] for row in rows])
        lines.append(
            f"| {name} | {len(rows)} | {rate([row['verdict'] == 'ok' for row in rows])} | {right:.3f} | {others} |"
        )
    return lines


def presence_table(cells: dict[str, Rows]) -> list[str]:
    """Of the things asked for, how many are drawn by their shapes: their share, and that of pictures with at least 1 to
    4 of them."""
    most = max((len(row["asked"]) for rows in cells.values() for row in rows), default=0)
    head = ["cell", "n", "things present", *(f"at least {count}" for count in range(1, most + 1))]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for name, rows in cells.items():
        asked = len(rows[0]["asked"])
        shares = [rate([row["present"] >= count for row in rows]) for count in range(1, asked + 1)]
        present = rate([row["present"] / asked for row in rows])
        lines.append(f"| {' | '.join([name, str(len(rows)), present, *shares, *[''] * (most - asked)])} |")
    return lines


def mark_table(cells: dict[str, Rows]) -> list[str]:
    """Of the marks asked for, how many are in the picture, and what became of them."""
    head = ["cell", "marks", "present somewhere", *MARK_FATES]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for name, rows in cells.items():
        fates = [fate for row in rows for fate in row["marks"]]
        if fates:
            shares = [f"{fates.count(fate) / len(fates):.3f}" for fate in MARK_FATES]
            present = rate([np.mean([fate in PRESENT for fate in row["marks"]]) for row in rows])
            lines.append(f"| {' | '.join([name, str(len(fates)), present, *shares])} |")
    return lines


def tables(rows: Rows, names: list[str], sets: list[str]) -> str:
    """The figures of these cells in this order as Markdown; presence and marks of the ``sets`` among them."""
    by_cell = {name: [row for row in rows if row["cell"] == name] for name in names}
    by_cell = {name: mine for name, mine in by_cell.items() if mine}
    of_sets = {name: mine for name, mine in by_cell.items() if name in sets}
    parts = (verdict_table(by_cell), presence_table(of_sets), mark_table(of_sets))
    return "\n\n".join("\n".join(part) for part in parts)
