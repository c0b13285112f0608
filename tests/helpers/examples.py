"""The example workflows by their titles. Their files are numbered in the order in which they teach."""

from __future__ import annotations

import json
import re
from pathlib import Path

from clone import ROOT

WORKFLOWS = ROOT / "workflows"
NUMBERED = re.compile(r"(\d\d) (.+)")
FILES = {NUMBERED.sub(r"\2", path.stem): path for path in sorted(WORKFLOWS.glob("*.json"))}
"""The file of each title, in the order of the numbers."""


def ui(title: str) -> dict:
    """The graph as the frontend saves it."""
    return read(FILES[title])


def api(title: str) -> dict:
    """The graph as scripts send it."""
    return read(WORKFLOWS / "api" / FILES[title].name)


def read(path: Path) -> dict:
    return json.loads(path.read_text("utf-8"))


def kinds(title: str) -> set[str]:
    """The classes of a workflow's nodes."""
    return {node["class_type"] for node in api(title).values()}
