"""What each paper says of its method, and what the demo model does: one table.

    .dev/venv/bin/python benchmarks/claims.py [--only METHOD ...] [--images 480]
    .dev/venv/bin/python benchmarks/claims.py --images 480 --first 260 --add     (the table has the first 260)

A claim compares two workflows in one measure on one set of prompts, with the same prompts and noise; it agrees if the
paired difference has the paper's sign by more than two standard errors, disagrees if it has the other, and is undecided
else. Images are judged and kept as by binding.py; with ``--add`` the table itself stands for those before ``--first``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import host
import judging
from binding_table import Row, compare, joined_means, joined_records, verdict_table
from claims_of_papers import CLAIMS, SUBJECT_CLAIMS, Claim
from report import table, with_error, write_report
from workflows import WORKFLOWS

MEASURES: dict[str, Callable[[Row], float]] = {
    "wholly right": lambda row: row.verdict == "ok",
    "things present": lambda row: row.presence,
    "something left out": lambda row: row.verdict == "missing",
    "things right": lambda row: row.share_right,
    "bound, of things present": lambda row: row.binding,
    "leaking, of things present": lambda row: row.leakage,
    "malformed": lambda row: row.verdict == "malformed",
    "marks on their own thing": lambda row: row.marks_right,
    "things in their place": lambda row: row.placed,
}
"""Of one image, 0 to 1."""

SAME = 0.05
"""A claim that nothing changes agrees if the difference and two standard errors stay within this, and disagrees if they
stay beyond."""


@dataclass(frozen=True)
class Finding:
    """Means of the two workflows, and their paired difference with its standard error, over ``n`` images."""

    claim: Claim
    n: int
    against: float
    mean: float
    difference: float
    error: float

    @property
    def verdict(self) -> str:
        if self.claim.sign == 0:
            least, most = (abs(self.difference) + side * self.error for side in (-2.0, 2.0))
            return "agrees" if most <= SAME else "disagrees" if least > SAME else "undecided"
        signed = self.claim.sign * self.difference
        return "agrees" if signed > 2.0 * self.error else "disagrees" if signed < -2.0 * self.error else "undecided"


def find(claim: Claim, rows: Sequence[Row], images: Iterable[int]) -> Finding:
    """Compare the images that both workflows of a claim have; where a measure has no number, the image is left out."""
    measure = MEASURES[claim.measure]
    kept = {(row.workflow, row.image): measure(row) for row in rows if row.prompt_set == claim.prompt_set}
    pairs = [(kept.get((claim.against, i)), kept.get((claim.workflow, i))) for i in images]
    pairs = [(float(a), float(b)) for a, b in pairs if a is not None and b is not None and a == a and b == b]
    mean_and_error = host.part("evaluation.score").mean_and_error
    difference, error = mean_and_error([b - a for a, b in pairs])
    means = [mean_and_error(values)[0] for values in zip(*pairs, strict=True)]
    return Finding(claim, len(pairs), *means, difference, error)


def joined(one: Finding, other: Finding) -> Finding:
    """What is found on the images of both findings of a claim, which share none: the same as from the images
    themselves, since a mean and its standard error hold their sum and their sum of squares."""
    n, difference, error = joined_means(*((each.n, each.difference, each.error) for each in (one, other)))
    against, mean = (sum(each.n * getattr(each, name) for each in (one, other)) / n for name in ("against", "mean"))
    return Finding(one.claim, n, against, mean, difference, error)


def row_of(rows: Sequence[dict], **fields: str) -> dict:
    """The row of an earlier table that has these fields.

    Raises:
        SystemExit: it has none.
    """
    for row in rows:
        if all(row.get(name) == value for name, value in fields.items()):
            return row
    raise SystemExit(f"The table has no row of {fields}: measure all images.")


def finding_of(claim: Claim, rows: Sequence[dict]) -> Finding:
    """What an earlier table has found for a claim."""
    asked = record_of(Finding(claim, 0, 0.0, 0.0, 0.0, 0.0))
    row = row_of(rows, **{name: asked[name] for name in ("claim", "set", "measure", "workflow", "against")})
    return Finding(claim, row["n"], row["mean_against"], row["mean"], row["difference"], row["difference_error"])


def find_in_table(claim: Claim) -> Finding:
    """Compare two cases of a table in results/ that has their paired difference."""
    rows = json.loads((host.RESULTS / f"{claim.prompt_set}.json").read_text(encoding="utf-8"))["rows"]
    case, against = (row_of(rows, case=name, less=None) for name in (claim.workflow, claim.against))
    paired = row_of(rows, case=claim.workflow, less=claim.against)
    difference, error, n = (paired[f"{claim.measure}{of}"] for of in ("", "_error", "_n"))
    return Finding(claim, n, against[claim.measure], case[claim.measure], difference, error)


def needed(claims: Sequence[Claim]) -> dict[str, list[str]]:
    """The workflows that each set of prompts has to be drawn with."""
    found: dict[str, list[str]] = {}
    for claim in claims:
        names = found.setdefault(claim.prompt_set, [])
        names += [name for name in (claim.against, claim.workflow) if name not in names]
    return found


def lines_of(findings: Sequence[Finding]) -> list[list[str]]:
    return [
        [
            finding.claim.method,
            finding.claim.text,
            f"{finding.claim.workflow} − {finding.claim.against}, {finding.claim.prompt_set}",
            finding.claim.measure,
            str(finding.n),
            f"{finding.against:.3f} → {finding.mean:.3f}",
            with_error(finding.difference, finding.error, sign="+"),
            f"**{finding.verdict}**",
        ]
        for finding in findings
    ]


def record_of(finding: Finding) -> dict:
    claim = finding.claim
    return {
        "method": claim.method,
        "claim": claim.text,
        "set": claim.prompt_set,
        "measure": claim.measure,
        "workflow": claim.workflow,
        "against": claim.against,
        "n": finding.n,
        "mean_against": finding.against,
        "mean": finding.mean,
        "difference": finding.difference,
        "difference_error": finding.error,
        "verdict": finding.verdict,
    }


def main() -> None:
    methods = list(dict.fromkeys(claim.method for claim in CLAIMS))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=methods, default=methods, help="methods to measure now")
    judging.add_arguments(parser, images=480)
    parser.add_argument("--tables", type=Path, default=host.RESULTS / "claims", help="where the tables go, without .md")
    parser.add_argument("--add", action="store_true", help="to what the table has found on the images before --first")
    arguments = parser.parse_args()
    wanted = [claim for claim in CLAIMS if claim.method in arguments.only]
    names = needed(wanted)
    workflows = {each: {name: WORKFLOWS[name] for name in of_set} for each, of_set in names.items()}
    rows, _ = judging.judged_images(arguments, workflows)
    images = range(arguments.first, arguments.images)
    findings = [find(claim, rows, images) for claim in wanted]
    compared = [record for each, of_set in names.items() for record in compare(rows, [each], of_set, images)]
    if arguments.add:
        earlier = json.loads(arguments.tables.with_suffix(".json").read_text(encoding="utf-8"))["rows"]
        findings = [joined(finding_of(each.claim, earlier), each) for each in findings]
        compared = [
            joined_records(row_of(earlier, set=each["set"], workflow=each["workflow"], claim=None), each)
            for each in compared
        ]
    findings += [find_in_table(claim) for claim in SUBJECT_CLAIMS]
    head = [
        "What the papers say of their methods, in their terms, and what the bundled demo model does. These are no "
        "figures of Stable Diffusion. Differences are paired, with standard errors; FastComposer's are from the "
        "tables of its subjects, their means of all pictures.",
        "Why two of the methods do nothing here or do harm: why-not.md. Where settings were found: settings.md.",
        judging.conditions(arguments, float("nan")),
    ]
    columns = ["method", "the paper's claim", "compared", "measure", "n", "from → to", "difference ± SE", "verdict"]
    body = [line for sentence in head for line in (sentence, "")]
    claimed = table(columns, lines_of(findings))
    pictures = ["", "## The pictures behind them", "", *verdict_table(compared)]
    text = "\n".join(["# Claims of the papers", "", *body, *claimed, *pictures]) + "\n"
    write_report(text, [*map(record_of, findings), *compared], head, arguments.tables)
    print(text)


if __name__ == "__main__":
    main()
