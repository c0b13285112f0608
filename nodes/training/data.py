"""Pictures to train with: a folder becomes training data."""

import hashlib
from pathlib import Path

import comfy.model_management
import comfy.utils
import folder_paths
from comfy_api.latest import io

from ...training.data import TrainingData, digest_of, read_folder, report
from ..shared import wires

CATEGORY = "semantic binding/training"


class SBTrainingData(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SBTrainingData",
            display_name="Training Data",
            category=CATEGORY,
            description=(
                "Reads pictures, their captions and the masks of the captions' nouns from a folder, for the training "
                "nodes. Tells how many masks were found for which nouns, lists what is broken, and goes on with the "
                "rest."
            ),
            search_aliases=["dataset", "load image dataset", "lora training", "tokencompose", "captions", "masks"],
            inputs=[
                io.String.Input(
                    "folder",
                    default="",
                    tooltip=(
                        "A folder below ComfyUI's input folder by its name, or any folder by its whole path. It holds "
                        "cat.png, cat.txt with the caption, and cat/sofa.png with the mask of a noun; or a "
                        "metadata.jsonl as TokenCompose published it. Save Training Data writes such folders."
                    ),
                ),
                io.Int.Input(
                    "size",
                    default=512,
                    min=64,
                    max=4096,
                    step=64,
                    tooltip=(
                        "Side of the square that pictures are brought to, in pixels: the shorter side is scaled to it, "
                        "and the middle cut out, as published. 512 for SD 1, 768 for SD 2.1, 1024 for SDXL."
                    ),
                ),
            ],
            outputs=[
                wires.TrainingData.Output(display_name="data", tooltip="The pictures. Connect it to a training node."),
                io.String.Output(
                    display_name="report", tooltip="How many pictures and masks there are, of what, and what is broken."
                ),
            ],
            has_intermediate_output=True,
        )

    @classmethod
    def validate_inputs(cls, folder=None) -> bool | str:
        try:
            if folder is not None:
                folder_of(folder)
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, folder=None, size=None) -> str:
        """Changes with the files of the folder; one that comes over a wire changes with the nodes it comes from."""
        if folder is None:
            return ""
        files = sorted(path for path in folder_of(folder).rglob("*") if path.is_file())
        states = [(str(path), status.st_size, status.st_mtime_ns) for path in files for status in [path.stat()]]
        return hashlib.sha256(repr(states).encode()).hexdigest()

    @classmethod
    def execute(cls, folder, size) -> io.NodeOutput:
        data = read(folder_of(folder), size)
        told = report(data)
        return io.NodeOutput(data, told, ui={"text": (told,)})


def folder_of(name: str) -> Path:
    """A folder by its whole path, or by its name below ComfyUI's input folder.

    Raises:
        ValueError: there is none.
    """
    root = Path(folder_paths.get_input_directory())
    folder = root / name.strip()
    if not name.strip() or not folder.is_dir():
        own = sorted(path.name for path in root.iterdir() if path.is_dir())
        raise ValueError(
            f'There is no folder "{name}" of training data. Give the name of one in {root}, or a whole path. In there: '
            f"{', '.join(own) or 'none'}."
        )
    return folder


def read(folder: Path, size: int) -> TrainingData:
    """The data of a folder, with progress.

    Raises:
        ValueError: nothing in it can be trained with.
    """
    progress = comfy.utils.ProgressBar(sum(1 for path in folder.iterdir() if path.is_file()))

    def step() -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        progress.update(1)

    found = read_folder(folder, step)
    return TrainingData(folder, found.items, found.broken, size, digest_of(found.items))
