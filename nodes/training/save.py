"""Pictures of a graph as training data on the disk."""

from pathlib import Path

import folder_paths
from comfy_api.latest import io

from ...training.writing import Written, masks_of, write
from ..shared import wires
from .data import CATEGORY

INPUT, OUTPUT = "input folder", "output folder"


class SBSaveTrainingData(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SBSaveTrainingData",
            display_name="Save Training Data",
            category=CATEGORY,
            description=(
                "Writes pictures with their captions and the masks of their entities into a folder that Training Data "
                "reads. It never overwrites anything: each run adds what the folder does not have yet."
            ),
            search_aliases=["dataset", "save images with captions", "lora training", "save masks", "tokencompose"],
            inputs=[
                io.Image.Input("image", tooltip="The pictures."),
                io.String.Input(
                    "folder",
                    default="training",
                    tooltip="Name of the folder, which is made if it is not there. May have subfolders: cats/tabby.",
                ),
                io.Combo.Input("below", options=[INPUT, OUTPUT], default=INPUT, tooltip="Which folder it lies in."),
                io.String.Input(
                    "captions",
                    default="",
                    multiline=True,
                    tooltip=(
                        "One line for each picture, or one for all. Empty for the prompt of the binding. The nouns "
                        "that have masks have to be in it."
                    ),
                ),
                wires.Binding.Input(
                    "binding",
                    optional=True,
                    tooltip=(
                        "The prompt's entities with their masks, from Segment Entities, Assign Masks or another mask "
                        "node. Without it no masks are written."
                    ),
                ),
            ],
            outputs=[
                io.String.Output(
                    display_name="folder", tooltip="The folder's whole path. Connect it to the folder of Training Data."
                ),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, image, folder, below, captions, binding=None) -> io.NodeOutput:
        lines = [line.strip() for line in captions.splitlines() if line.strip()]
        if not lines and binding is None:
            raise ValueError("The pictures have no captions. Write them in captions, or connect a BINDING.")
        place = place_of(folder, below)
        masks = {} if binding is None else masks_of(binding, tuple(image.shape[1:3]))
        written = write(place, image, lines or [binding.text], masks)
        return io.NodeOutput(str(place), ui={"text": (told(written, place),)})


def place_of(folder: str, below: str) -> Path:
    """The folder of that name below ComfyUI's own.

    Raises:
        ValueError: it would lie elsewhere, or be that folder itself.
    """
    root = Path(folder_paths.get_input_directory() if below == INPUT else folder_paths.get_output_directory()).resolve()
    place = (root / folder.strip()).resolve()
    if root not in place.parents:
        raise ValueError(
            f'"{folder}" is no name of a folder in {root}. Give a name such as "training" or "cats/tabby".'
        )
    return place


def told(written: Written, place: Path) -> str:
    """What was written, for people."""
    names = written.names
    first = f"{names[0]} to {names[-1]}" if len(names) > 1 else names[0]
    lines = [f"{first} in {place.name}"]
    lines += [f"{noun}: {count} of {len(names)} pictures have a mask" for noun, count in written.masked.items()]
    return "\n".join(lines)
