"""Where models of transformers lie: folders as it saves them, and the cache of the Hugging Face hub."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import folder_paths

CONFIG = "config.json"
PATTERNS = ["*.json", "*.txt", "*.model", "*.jinja", "*.safetensors"]
"""The files of a repository that are needed; others hold the same weights in another form."""


@dataclass(frozen=True)
class ModelFolders:
    """The folders of one kind of model, under ``models/<name>`` and where else ComfyUI is told to look for it.

    Args:
        name: of the folder.
        noun: what such a model is, for people.
        accepts: whether a config.json, as a dict, is of such a model.
        refusal: what is said of one that is not, after its folder's name.
        hint: what else is said where a folder has no config.json.
    """

    name: str
    noun: str
    accepts: Callable[[dict], bool]
    refusal: Callable[[dict], str]
    hint: str = ""

    def __post_init__(self) -> None:
        folder_paths.add_model_folder_path(self.name, os.path.join(folder_paths.models_dir, self.name))

    @property
    def roots(self) -> list[Path]:
        return [Path(root) for root in folder_paths.get_folder_paths(self.name)]

    @property
    def place(self) -> str:
        """The folders that are looked in, for people."""
        return " or ".join(folder_paths.get_folder_paths(self.name))

    def names(self) -> set[str]:
        """The models that are there, by their path below the folder."""
        return {
            config.parent.relative_to(root).as_posix()
            for root in self.roots
            for pattern in (f"*/{CONFIG}", f"*/*/{CONFIG}")
            for config in root.glob(pattern)
            if self.accepts(told_by(config))
        }

    def find(self, name: str) -> Path | None:
        """The folder of that name; None where there is none.

        Raises:
            ValueError: it holds something else.
        """
        for root in self.roots:
            folder = root / name
            if folder.is_dir() and root.resolve() in folder.resolve().parents:
                self.check(folder)
                return folder
        return None

    def check(self, folder: Path) -> None:
        """Raise ValueError if a folder holds no such model."""
        config = folder / CONFIG
        article = "An" if self.noun[0] in "aeiou" else "A"
        if not config.is_file():
            held = ", ".join(sorted(each.name for each in folder.glob("*"))[:5]) or "nothing"
            raise ValueError(
                f"{folder} has no {CONFIG}, but {held}. {article} {self.noun} is a folder as transformers saves it: "
                f"{CONFIG}, preprocessor_config.json, the tokenizer's files and model.safetensors.{self.hint}"
            )
        told = told_by(config)
        if not self.accepts(told):
            raise ValueError(f"{folder} {self.refusal(told)}")

    def snapshot(self, repository: str, download: bool, size: str = "") -> Path:
        """The folder of a repository in the hub's cache; its files come from the hub only with ``download``.

        transformers gets this folder and not the repository's name: given a name it asks the hub, even if it is told
        to use local files only.

        Raises:
            ValueError: it is not there, or could not be downloaded.
        """
        from huggingface_hub import snapshot_download

        try:
            return Path(snapshot_download(repository, local_files_only=not download, allow_patterns=PATTERNS))
        except Exception as error:
            by_hand = f"put its files into a folder of their own in {self.place}"
            if download:
                raise ValueError(f"{repository} could not be downloaded; {by_hand}. {error}") from error
            raise ValueError(
                f"{repository} is not in the Hugging Face cache of this computer. Switch download on to have it "
                f"fetched{f' ({size})' if size else ''}, or {by_hand}."
            ) from error


def told_by(config: Path) -> dict:
    """What a config.json says; nothing if it cannot be read."""
    try:
        told = json.loads(config.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def architectures(told: dict) -> list[str]:
    """The classes of transformers that a config.json names."""
    return told.get("architectures") or []


def changed(folder: Path) -> int:
    """When a file of a model was last written."""
    return max(file.stat().st_mtime_ns for file in folder.iterdir())
