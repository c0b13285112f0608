"""What the trainer nodes share while they run, and their outputs."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import comfy.utils
import folder_paths
from comfy_api.latest import io, ui
from comfy_execution.graph_utils import ExecutionBlocker
from PIL import Image

from ...training.curves import picture
from ...training.files import lora_path
from ...training.loop import LOSS
from ...training.preview import preview_of
from ...training.session import Method, Result, train_lora
from ..shared.progress import reporter
from .inputs import settings_and_prompts

HIDDEN = [io.Hidden.unique_id, io.Hidden.prompt, io.Hidden.extra_pnginfo]


class WrittenFiles:
    """The LoRAs that nodes have written since ComfyUI started, and how many of them were found deleted or changed."""

    def __init__(self):
        self.times: dict[Path, int] = {}
        self.lost = 0

    def add(self, path: Path) -> None:
        self.times[path] = path.stat().st_mtime_ns

    def count_lost(self) -> int:
        for path, written in list(self.times.items()):
            if not path.exists() or path.stat().st_mtime_ns != written:
                del self.times[path]
                self.lost += 1
        return self.lost


WRITTEN = WrittenFiles()
"""While none is lost, ComfyUI may take a trained LoRA from its cache."""


def training_outputs() -> list:
    return [
        io.LoraModel.Output(
            display_name="lora",
            tooltip="The LoRA. Connect it to Load LoRA Model, or load its file with Load LoRA in any workflow.",
        ),
        io.LossMap.Output(display_name="loss", tooltip="The total loss of each step, for core's Plot Loss Graph."),
        io.Int.Output(display_name="steps", tooltip="How many steps the LoRA was trained for."),
        io.Image.Output(display_name="curves", tooltip="A panel for each loss, and the last preview pictures."),
        io.String.Output(display_name="file", tooltip="The name of the LoRA's file, as Load LoRA lists it."),
    ]


def check_name(name: str | None) -> bool | str:
    """For ``validate_inputs``: whether a LoRA can have that name; None comes over a wire."""
    try:
        if name is not None:
            lora_path(name)
    except ValueError as error:
        return str(error)
    return True


class Display:
    """Progress and live picture on the node that runs. ``last`` is the last picture that was shown."""

    def __init__(self, steps: int):
        self.bar = comfy.utils.ProgressBar(steps)
        self.last: Image.Image | None = None

    def show(self, step: int, steps: int, shown: Image.Image | None) -> None:
        self.last = shown or self.last
        self.bar.update_absolute(step, steps, shown and ("JPEG", shown, max(shown.size)))


def trained(cls, model, clip, vae, method: Method, chosen: Mapping[str, Any], notes: Sequence[str]) -> io.NodeOutput:
    """Train as a node: with progress on it, and its outputs.

    Args:
        chosen: the values of the shared inputs.
        notes: lines that are shown at the end.
    """
    settings, prompts = settings_and_prompts(chosen)
    preview = preview_of(clip, vae, prompts, method.latent_shape, settings.seed)
    display = Display(settings.steps)
    result = train_lora(model, method, settings, preview, reporter(cls), display.show)
    WRITTEN.add(result.path)
    curves = as_image(display.last or picture(result.curves))
    shown = ui.PreviewImage(curves, cls=cls).as_dict() | {"text": ("\n".join([*told(result), *notes]),)}
    losses = result.curves.losses[LOSS]
    return io.NodeOutput(result.weights, loss_map(losses), len(losses), curves, file_name(result.path), ui=shown)


def told(result: Result) -> list[str]:
    """Where the LoRA is, how to use it, and how the losses went."""
    curves = result.curves
    begun = "was there already, trained with these settings" if result.found else "is written"
    return [
        f"models/loras/{file_name(result.path)} {begun}. Steps: {len(curves)}",
        f'Use it with Load LoRA as "{file_name(result.path)}" (press R for it to be listed), or connect lora to Load '
        "LoRA Model. The prompts need nothing special.",
        *(f"{name}: {change(values)}" for name, values in curves.losses.items()),
    ]


def change(values: Sequence[float]) -> str:
    """The means of a loss over the first and over the last tenth of the steps; without steps that have none."""
    some = max(1, len(values) // 10)
    known = [[value for value in each if math.isfinite(value)] for each in (values[:some], values[-some:])]
    first, last = (fmean(each) if each else math.nan for each in known)
    return f"{first:.4g} at first, {last:.4g} at last (mean of {some})"


def file_name(path: Path) -> str:
    """A LoRA's name in the list of Load LoRA."""
    return str(path.relative_to(folder_paths.get_folder_paths("loras")[0]))


def loss_map(losses: Sequence[float]):
    """Losses as core's LOSS_MAP. Its graph divides by their range: what is connected is not executed where there is
    none, and says why."""
    if min(losses) == max(losses):
        return ExecutionBlocker("All steps of this training have the same loss, so there is nothing to plot.")
    return {"loss": list(losses)}


def as_image(shown: Image.Image):
    """A picture as an IMAGE."""
    import numpy as np
    import torch

    return torch.from_numpy(np.array(shown)).float()[None] / 255
