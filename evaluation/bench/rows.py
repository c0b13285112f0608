"""Rows of a benchmark in a JSON lines file.

A row is one run: a workflow with a prompt and a seed, and the pictures of its batch. It is written when the run has
ended, so that an interrupted benchmark goes on with what is not there.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from .judges import Judged
from .prompt import Prompt


class Key(NamedTuple):
    """What makes two runs the same: the graph without prompt and seed, but with its judge, and these."""

    digest: str
    prompt: str
    seed: int


@dataclass(frozen=True)
class Picture:
    """One picture of a run: its file, below the output folder, and what the judge says of it."""

    file: str
    judged: Judged


@dataclass(frozen=True)
class Row:
    workflow: str
    digest: str
    prompt: Prompt
    seed: int
    pictures: tuple[Picture, ...]
    server: str
    seconds: float

    @property
    def key(self) -> Key:
        return Key(self.digest, self.prompt.text, self.seed)


def to_line(row: Row) -> str:
    images = [
        {"file": each.file, "score": each.judged.score, "questions": list(each.judged.questions)}
        for each in row.pictures
    ]
    told = {
        "workflow": row.workflow,
        "digest": row.digest,
        "prompt": row.prompt.text,
        "category": row.prompt.category,
        "objects": list(row.prompt.objects),
        "relation": row.prompt.relation,
        "seed": row.seed,
        "server": row.server,
        "seconds": round(row.seconds, 3),
        "images": images,
    }
    return json.dumps(told, ensure_ascii=False)


def of_line(line: str) -> Row:
    told = json.loads(line)
    return Row(
        told["workflow"],
        told["digest"],
        Prompt(told["prompt"], told["category"], tuple(told["objects"]), told["relation"]),
        told["seed"],
        tuple(Picture(each["file"], Judged(each["score"], tuple(each["questions"]))) for each in told["images"]),
        told["server"],
        told["seconds"],
    )


def read_rows(path: Path) -> dict[Key, Row]:
    """The rows of a file, if there is one; what a program that was killed left of a line is cut off.

    Raises:
        ValueError: a line is no row.
    """
    if not path.exists():
        return {}
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        path.write_bytes(whole)
    rows: dict[Key, Row] = {}
    for number, line in enumerate(whole.decode("utf-8").splitlines(), 1):
        try:
            row = of_line(line)
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"Line {number} of {path} is no row of a benchmark: {error!r}. Is it another file?"
            ) from error
        rows[row.key] = row
    return rows


def append_row(path: Path, row: Row) -> None:
    with path.open("a", encoding="utf-8", newline="\n") as file:
        file.write(to_line(row) + "\n")
