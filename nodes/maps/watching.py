"""The files that a browser fetches to show maps, and the news of a run that goes on."""

from collections.abc import Callable
from pathlib import Path

import folder_paths

from ...attention.maps.live import StepMaps
from ...attention.maps.targets import Target
from ...attention.maps.viewer import write_step

PLACE = {"type": "temp", "subfolder": "semantic_binding"}
"""Where they lie, in the words of ComfyUI's /view."""
STEP_EVENT = "semantic_binding.attention_step"
COLOUR_MAP = "ember"


def folder() -> Path:
    return Path(folder_paths.get_temp_directory(), PLACE["subfolder"])


def reporter(node_class, targets: tuple[Target, ...]) -> Callable[[StepMaps], None]:
    """Shows the maps of each step on the node, in the browser of whoever queued the run."""
    node_id = node_class.hidden.unique_id if node_class.hidden else None
    told = {"labels": [target.label for target in targets], "entities": [target.entity for target in targets]}

    def report(done: StepMaps) -> None:
        from server import PromptServer

        instance = getattr(PromptServer, "instance", None)
        if instance is None or node_id is None or instance.client_id is None:
            return
        written = write_step(done.maps, COLOUR_MAP, folder())
        news = {"node": node_id, "step": done.step, "steps": done.steps, **told, **PLACE, **written}
        instance.send_sync(STEP_EVENT, news, instance.client_id)

    return report
