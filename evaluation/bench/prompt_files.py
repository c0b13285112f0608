"""Prompts from files: plain text, T2I-CompBench's lists, and the records of MULTIGEN and VISOR; or made from classes.

- Text: a prompt a line, or a category, a tab and the prompt; T2I-CompBench's lists are of the first kind. Prompts
  without a category have the file's name as theirs.
- ``.json`` (a list) and ``.jsonl`` (one a line): records with the ``text`` of the prompt, and as MULTIGEN and VISOR
  publish them ``obj_1_attributes`` and so on, a list with the thing's name, and ``rel_type``; or a ``category``.
- ``multigen:CLASSES:COUNT`` and ``visor:CLASSES:COUNT``: so many prompts made of the classes in a file, one a line
  (1000 without ``:COUNT``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from . import multigen, visor
from .prompt import Prompt

BUILDERS: dict[str, Callable[[Sequence[str], int], list[Prompt]]] = {"multigen": multigen.build, "visor": visor.build}
COUNT = 1000


def read_prompts(given: str) -> list[Prompt]:
    """The prompts of a file, or of classes in a file, each once.

    Raises:
        ValueError: it cannot be read, or has no prompts.
    """
    built = re.fullmatch(rf"({'|'.join(BUILDERS)}):(.+?)(?::(\d+))?", given)
    path = Path(built[2] if built else given)
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"The prompts of {path} cannot be read: {error}") from error
    try:
        prompts = _built(built, text) if built else _READERS.get(path.suffix.lower(), _of_lines)(text, path.stem)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if not prompts:
        raise ValueError(f"There are no prompts in {path}.")
    return list({prompt.text: prompt for prompt in prompts}.values())


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def _built(built: re.Match[str], text: str) -> list[Prompt]:
    return BUILDERS[built[1]](_lines(text), int(built[3] or COUNT))


def _of_lines(text: str, stem: str) -> list[Prompt]:
    prompts = []
    for line in _lines(text):
        category, tab, prompt = line.partition("\t")
        prompts.append(Prompt(prompt.strip(), category.strip()) if tab else Prompt(line, stem))
    return prompts


def _of_json(text: str, stem: str) -> list[Prompt]:
    records = json.loads(text)
    if not isinstance(records, list):
        raise ValueError("this is not a list of records.")
    return [_of_record(record, number, stem) for number, record in enumerate(records, 1)]


def _of_json_lines(text: str, stem: str) -> list[Prompt]:
    return [_of_record(json.loads(line), number, stem) for number, line in enumerate(_lines(text), 1)]


def _of_record(record: Any, number: int, stem: str) -> Prompt:
    if not isinstance(record, dict) or not isinstance(record.get("text"), str) or not record["text"].strip():
        raise ValueError(f'record {number} is no object with a "text".')
    objects = tuple(
        name for place in range(1, 1 + len(record)) if (name := _name(record.get(f"obj_{place}_attributes")))
    )
    relation = record.get("rel_type")
    relation = relation if relation in visor.RELATIONS and len(objects) == 2 else ""
    category = record.get("category") or relation or (multigen.CATEGORY if len(objects) == multigen.OBJECTS else stem)
    return Prompt(record["text"].strip(), str(category), objects, relation)


def _name(attributes: Any) -> str:
    """The words for a thing: VISOR's records have [null] for one that is not there."""
    return " ".join(map(str, filter(None, attributes))) if isinstance(attributes, list) else str(attributes or "")


_READERS = {".json": _of_json, ".jsonl": _of_json_lines}
