"""The pictures of a benchmark side by side, as one HTML page beside its folder of pictures.

It needs nothing from elsewhere, and shows all without its script, which only hides rows. The rows with the lowest
scores come first.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from urllib.parse import quote

from .rows import Picture, Row
from .table import ALL, Table, number, with_error

RIGHT = 0.5
"""A score below this is shown as a failure."""

STYLE = """
:root { color-scheme: light dark; --back: #fff; --text: #1c1c22; --soft: #667; --line: #d8d8e0; --wrong: #c2183a;
  --right: #00783a; }
@media (prefers-color-scheme: dark) { :root { --back: #17171b; --text: #e8e8ee; --soft: #99a; --line: #3a3a44;
  --wrong: #ff6b81; --right: #4cc98a; } }
body { background: var(--back); color: var(--text); font: 15px/1.45 system-ui, sans-serif; margin: 1.5rem; }
h1 { font-size: 1.4rem; } ul { color: var(--soft); padding-left: 1.2rem; }
table { border-collapse: collapse; } th, td { padding: .4rem .7rem; text-align: left; vertical-align: top; }
.table th, .table td { border-bottom: 1px solid var(--line); } .table td + td { font-variant-numeric: tabular-nums; }
.pictures { margin-top: 1rem; } .pictures > tbody > tr > * { border-top: 1px solid var(--line); }
.pictures thead th { position: sticky; top: 0; background: var(--back); }
.asked { max-width: 16rem; font-weight: normal; } .asked small { color: var(--soft); display: block; }
figure { display: inline-block; margin: 0 .5rem .5rem 0; } img { width: 256px; max-width: 40vw; display: block; }
.right { color: var(--right); } .wrong { color: var(--wrong); } .soft { color: var(--soft); }
figcaption ul { margin: .2rem 0; padding-left: 1rem; font-size: .85rem; max-width: 240px; color: inherit; }
form { margin: 1rem 0; display: flex; gap: 1.2rem; flex-wrap: wrap; }
"""

SCRIPT = """
const form = document.querySelector("form");
form.hidden = false;
form.addEventListener("input", () => {
  for (const row of document.querySelectorAll(".pictures tbody tr")) {
    const wanted = form.category.value;
    row.hidden = (wanted !== "" && row.dataset.category !== wanted)
      || (form.failing.checked && row.dataset.failing !== "yes")
      || (form.differing.checked && row.dataset.differing !== "yes");
  }
});
"""


def page(title: str, about: Sequence[str], table: Table, rows: Sequence[Row], workflows: Sequence[str]) -> str:
    """The page; the files of its pictures are as in the rows."""
    cells: dict[tuple[str, int], dict[str, Row]] = {}
    for row in rows:
        cells.setdefault((row.prompt.text, row.seed), {})[row.workflow] = row
    ordered = sorted(cells.values(), key=_order)
    categories = dict.fromkeys(row.prompt.category for row in rows)
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>",
            f"<h1>{escape(title)}</h1>",
            f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in about)}</ul>",
            *_summary(table),
            *_form([each for each in categories if each]),
            '<table class="pictures"><thead><tr><th>prompt</th>',
            *(f"<th>{escape(name)}</th>" for name in workflows),
            "</tr></thead><tbody>",
            *(_row(each, workflows) for each in ordered),
            f"</tbody></table><script>{SCRIPT}</script></body></html>",
        ]
    )


def _scores(of_workflow: dict[str, Row]) -> list[float]:
    judged = [picture.judged.score for row in of_workflow.values() for picture in row.pictures]
    return [score for score in judged if score is not None]


def _order(of_workflow: dict[str, Row]) -> tuple[float, str, int]:
    """The lowest mean first; what could not be judged last."""
    scores = _scores(of_workflow)
    row = next(iter(of_workflow.values()))
    return (sum(scores) / len(scores) if scores else float("inf"), row.prompt.text, row.seed)


def _summary(table: Table) -> list[str]:
    lines = [
        '<table class="table"><tr><th>workflow</th><th>prompts</th><th>n</th><th>score</th><th>difference</th></tr>'
    ]
    for line in table.lines:
        cells = (
            line.workflow,
            line.category if line.category != ALL else "all",
            str(line.n),
            with_error(line.mean, line.error),
            with_error(line.difference, line.difference_error, "+"),
        )
        lines.append(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>")
    return [*lines, "</table>"]


def _form(categories: Sequence[str]) -> list[str]:
    options = "".join(f'<option value="{escape(each)}">{escape(each)}</option>' for each in categories)
    return [
        f'<form hidden><label>prompts <select name="category"><option value="">all</option>{options}</select></label>',
        '<label><input type="checkbox" name="failing"> only where a workflow fails</label>',
        '<label><input type="checkbox" name="differing"> only where workflows differ</label></form>',
    ]


def _row(of_workflow: dict[str, Row], workflows: Sequence[str]) -> str:
    row = next(iter(of_workflow.values()))
    scores = _scores(of_workflow)
    failing = any(score < RIGHT for score in scores)
    differing = len({tuple(picture.judged.score for picture in each.pictures) for each in of_workflow.values()}) > 1
    told = "".join(
        f' data-{name}="{escape(value)}"'
        for name, value in (
            ("category", row.prompt.category),
            ("failing", "yes" if failing else "no"),
            ("differing", "yes" if differing else "no"),
        )
    )
    under = " \u00b7 ".join(filter(None, (row.prompt.category, f"seed {row.seed}")))
    asked = f'<th class="asked">{escape(row.prompt.text)}<small>{escape(under)}</small></th>'
    cells = "".join(f"<td>{_figures(of_workflow.get(name))}</td>" for name in workflows)
    return f"<tr{told}>{asked}{cells}</tr>"


def _figures(row: Row | None) -> str:
    return "" if row is None else "".join(_figure(picture, row.prompt.text) for picture in row.pictures)


def _figure(picture: Picture, text: str) -> str:
    score = picture.judged.score
    kind = "soft" if score is None else "right" if score >= RIGHT else "wrong"
    told = "not judged" if score is None else number(score, digits=2)
    source = escape(quote(picture.file))
    questions = "".join(map(_question, picture.judged.questions))
    return (
        f'<figure><a href="{source}"><img src="{source}" loading="lazy" alt="{escape(text)}"></a>'
        f'<figcaption><b class="{kind}">{told}</b>{f"<ul>{questions}</ul>" if questions else ""}</figcaption></figure>'
    )


def _question(asked: dict) -> str:
    """What was asked, how probable yes is, and what was found instead, if that is known; "not" where no is right."""
    probability = float(asked["probability"])
    is_right = (probability if asked["wanted"] else 1 - probability) >= RIGHT
    found = f" (found: {asked['found']})" if asked.get("found") and not is_right else ""
    text = f"{'' if asked['wanted'] else 'not: '}{asked['text']}{found}"
    return f'<li class="{"right" if is_right else "wrong"}">{escape(text)} {number(probability, digits=2)}</li>'
