"""The judged images of the binding benchmark, and the tables made of them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import host
from report import number, table, with_error


@dataclass(frozen=True)
class Row:
    """One judged image. ``latent`` is a digest of its latent, by which equal results are told. ``placed`` is the share
    of the things that stand in the part of the picture that `side_by_side` gives them, whatever was done; of the marks
    asked for, ``marks_present`` are on some thing and ``marks_right`` on their own (nan without any). ``pooled`` are
    means of parts of the latent, from which it is told how far a set of pictures is from another."""

    prompt_set: str
    workflow: str
    image: int
    prompt: str
    latent: str
    verdict: str
    share_right: float
    presence: float
    binding: float
    leakage: float
    placed: float = math.nan
    marks_present: float = math.nan
    marks_right: float = math.nan
    pooled: tuple[float, ...] = ()


def read_rows(folder: Path) -> list[Row]:
    """The images judged so far, each once; a line that an interruption cut short is left out."""
    rows = {}
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_text().splitlines(keepends=True):
            if line.endswith("}\n"):
                row = Row(**json.loads(line))
                rows[row.prompt_set, row.workflow, row.image] = row
    return list(rows.values())


def forget_rows(folder: Path, workflows: Sequence[str]) -> None:
    """Drop what is kept of some workflows, because their code has changed."""
    rows = read_rows(folder)
    if any(row.workflow in workflows for row in rows):
        left = [json.dumps(asdict(row)) + "\n" for row in rows if row.workflow not in workflows]
        for path in folder.glob("*.jsonl"):
            path.unlink()
        (folder / "kept.jsonl").write_text("".join(left))


def compare(rows: Sequence[Row], sets: Sequence[str], workflows: Sequence[str], images: range) -> list[dict]:
    """A record for each set and workflow, with the paired difference to "plain" where both have the same images.
    Means of ``binding`` and ``leakage`` are of the ``with_things`` images that have any of the things asked for."""
    score = host.part("evaluation.score")
    kept = {(row.prompt_set, row.workflow, row.image): row for row in rows if row.image in images}
    records = []
    for prompt_set in sets:
        for workflow in workflows:
            mine = [kept[key] for image in images if (key := (prompt_set, workflow, image)) in kept]
            if not mine:
                continue
            record = {"set": prompt_set, "workflow": workflow, **asdict(score.summarise(mine))}
            record["with_things"] = sum(not math.isnan(row.binding) for row in mine)
            plain = [kept.get((prompt_set, "plain", row.image)) for row in mine]
            if workflow != "plain" and None not in plain:
                difference, error = score.paired_difference(mine, plain)
                same = sum(row.latent == other.latent for row, other in zip(mine, plain, strict=True)) / len(mine)
                record |= {"difference": difference, "difference_error": error, "identical_to_plain": same}
            records.append(record)
    return records


def joined_means(*parts: tuple[int, float, float]) -> tuple[int, float, float]:
    """How many values there are, their mean and its standard error, from those of parts that share no value."""
    n = sum(part_n for part_n, _, _ in parts)
    mean = sum(part_n * part_mean for part_n, part_mean, _ in parts) / n
    squares = sum(
        error**2 * part_n * (part_n - 1) + part_n * (part_mean - mean) ** 2 for part_n, part_mean, error in parts
    )
    return n, mean, math.sqrt(squares / (n * (n - 1)))


def joined_records(one: dict, other: dict) -> dict:
    """The record of the images of both, which share none."""

    def mean(field: str, weight: str = "n") -> float:
        parts = [(each[weight], each[field]) for each in (one, other) if each[weight]]
        return sum(n * value for n, value in parts) / sum(n for n, _ in parts) if parts else math.nan

    def with_error(field: str, error: str) -> dict:
        n, value, its_error = joined_means(*((each["n"], each[field], each[error]) for each in (one, other)))
        return {"n": n, field: value, error: its_error}

    shares = {
        verdict: sum(each["n"] * each["verdicts"].get(verdict, 0.0) for each in (one, other)) / (one["n"] + other["n"])
        for verdict in one["verdicts"] | other["verdicts"]
    }
    record = one | with_error("rate", "standard_error") | {"verdicts": shares}
    record |= {field: mean(field) for field in ("share_right", "presence")}
    record |= {field: mean(field, "with_things") for field in ("binding", "leakage")}
    record["with_things"] = one["with_things"] + other["with_things"]
    if "difference" in one:
        record |= with_error("difference", "difference_error")
        record["identical_to_plain"] = mean("identical_to_plain")
    return record


def verdict_table(records: Sequence[dict]) -> list[str]:
    """The records as the lines of a table."""
    verdicts = [
        name for name in host.part("evaluation.score").VERDICTS[1:] if any(name in r["verdicts"] for r in records)
    ]
    rates = ("share_right", "presence", "binding", "leakage")
    titles = ["entities right", "present", "bound", "leaking"]
    columns = ["prompts", "workflow", "n", "ok ± SE", "− plain ± SE", "identical", *verdicts, *titles]
    rows = [
        [
            record["set"],
            record["workflow"],
            str(record["n"]),
            with_error(record["rate"], record["standard_error"]),
            with_error(record.get("difference"), record.get("difference_error"), sign="+"),
            number(record.get("identical_to_plain"), 2),
            *(number(record["verdicts"].get(verdict, 0.0)) for verdict in verdicts),
            *(number(record[rate]) for rate in rates),
        ]
        for record in records
    ]
    return table(columns, rows)


def markdown(records: Sequence[dict], head: Sequence[str]) -> str:
    """The records as a table, under lines that say what was measured."""
    return "\n".join(["# Binding", "", *head, "", *verdict_table(records)]) + "\n"
