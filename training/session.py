"""A training from a loaded MODEL to a LoRA: memory, checkpoints, previews and progress around the loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from PIL import Image

from .curves import Curves, picture
from .files import (
    checkpoint_path,
    identity_of,
    load_checkpoint,
    lora_path,
    read_lora,
    save_checkpoint,
    save_lora,
)
from .identity import weights_digest
from .loop import Done, Loop, Optimisation, Stage, process_count
from .lora import Adapters, LoRASettings
from .memory import memory_of_a_step
from .network import UNET, Network, kohya_names
from .preview import Preview, drawn
from .schedule import CONSTANT


@dataclass(frozen=True)
class Settings:
    """What is trained, how long, and how often it is saved and shown (in steps; 0 for never). ``name`` is the LoRA's in
    models/loras; ``batch`` are samples in a forward pass, ``accumulate`` of them make a step."""

    name: str
    lora: LoRASettings
    optimisation: Optimisation
    steps: int
    batch: int
    accumulate: int
    seed: int
    checkpointing: bool
    save_every: int
    preview_every: int


class Method(Protocol):
    """What a training computes."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """All that its result depends on apart from ``Settings``, as JSON."""

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """``(C, h, w)``."""

    def rows(self, batch: int) -> int:
        """How many latents a backward pass has at once."""

    def more_memory(self, batch: int, checkpointing: bool) -> float:
        """Bytes that a step needs beside the passes of the UNet."""

    @property
    def patchers(self) -> Sequence:
        """ComfyUI's ModelPatchers of what a step needs beside the UNet."""

    def more_adapters(self, unet: torch.nn.Module, settings: Settings) -> Sequence[Adapters]:
        """Those beside the LoRA's that ``stages`` will use."""

    def stages(self, network: Network, adapters: Adapters, settings: Settings) -> Sequence[Stage]:
        """The first one trains the LoRA's ``adapters``."""


class Result(NamedTuple):
    """The LoRA's weights and file, the losses of all its steps, and whether it had been there already."""

    weights: dict[str, torch.Tensor]
    path: Path
    curves: Curves
    found: bool


Say = Callable[[str], None]


def train_lora(
    model, method: Method, settings: Settings, preview: Preview | None, say: Say, show: Callable[[int, int, Any], None]
) -> Result:
    """Train, or go on where the training of that name was interrupted.

    Args:
        preview: what is drawn every ``preview_every`` steps; None for nothing.
        say: is told in a line how far it is.
        show: is given steps done, all steps, and now and then a picture (None else).

    Raises:
        ValueError: the name belongs to another training, or a loss is no finite number.
    """
    path = lora_path(settings.name)
    identity = identity_with(model, method, settings)
    state = _found(path, identity, settings)
    if state is not None and state["loop"]["step"] == settings.steps and path.exists():
        return Result(read_lora(path), path, Curves(state["curves"]), True)

    with torch.inference_mode(False), torch.enable_grad():
        unet = model.model.diffusion_model
        adapters = Adapters(unet, settings.lora, settings.seed)
        others = tuple(method.more_adapters(unet, settings))
        network = Network(model, (adapters, *others), settings.checkpointing)
        for each in (adapters, *others):
            each.to(network.device)
        loop = Loop(method.stages(network, adapters, settings), settings.steps, settings.accumulate)
        curves = Curves()
        if state is not None:
            loop.load_state_dict(state["loop"])
            curves = Curves(state["curves"])
            say(f"Goes on from step {loop.step} of {settings.steps}.")
        _run(network, adapters, loop, method, settings, identity, curves, preview, say, show)
        weights = adapters.weights(kohya_names(model))
    if loop.rank == 0:
        save_lora(path, weights, identity, _about(settings))
    return Result(weights, path, curves, False)


def _run(network, adapters, loop, method, settings, identity, curves, preview, say, show) -> None:
    """Make the steps, with a checkpoint at every way out."""
    checkpoint, first = checkpoint_path(settings.name), loop.rank == 0
    memory = memory_of_a_step(network, method.latent_shape, method.rows(settings.batch), settings.checkpointing)
    memory += method.more_memory(settings.batch, settings.checkpointing)
    previews: list[Image.Image] = []
    start, began = time.monotonic(), loop.step

    def save() -> None:
        if first:
            content = {"loop": loop.state_dict(), "curves": curves.losses, "identity": identity}
            save_checkpoint(checkpoint, content)

    try:
        for done in loop.run(lambda: network.ready(memory, method.patchers)):
            curves.add(done.losses)
            if not first:
                continue
            last = done.step == settings.steps
            if _due(done.step, settings.save_every) or last:
                save()
            if preview is not None and (_due(done.step, settings.preview_every) or last):
                previews = drawn(preview, network, adapters)
            shown = last or bool(previews) and _due(done.step, settings.preview_every) or done.step % 10 == 0
            captions = preview.captions if previews else ()
            show(done.step, settings.steps, picture(curves, previews, captions) if shown else None)
            say(_told(done, settings, time.monotonic() - start, done.step - began))
    except BaseException:
        if loop.step > began:
            save()
        raise


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _told(done: Done, settings: Settings, seconds: float, steps: int) -> str:
    left = seconds / steps * (settings.steps - done.step)
    losses = ", ".join(f"{name} {value:.4g}" for name, value in done.losses.items())
    return f"step {done.step} of {settings.steps}, {_duration(left)} left: {losses}"


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


def identity_with(model, method: Method, settings: Settings) -> dict[str, Any]:
    """All that the steps of a training depend on; on their number only where the learning rate falls towards it."""
    chosen = asdict(settings)
    constant = settings.optimisation.schedule == CONSTANT
    for each in ("name", "save_every", "preview_every", "checkpointing", *(["steps"] if constant else [])):
        chosen.pop(each)
    chosen["optimisation"]["betas"] = list(settings.optimisation.betas)
    return {
        "settings": chosen,
        "method": dict(method.identity),
        "model": weights_digest(model, UNET),
        "processes": process_count(),
    }


def _found(path: Path, identity: Mapping[str, Any], settings: Settings) -> dict[str, Any] | None:
    """The checkpoint to go on from.

    Raises:
        ValueError: the name is that of another training, or of a LoRA from elsewhere.
    """
    state = load_checkpoint(checkpoint_path(settings.name))
    ours = identity_of(path) if path.exists() else None
    if path.exists() and ours != identity:
        what = "a LoRA from elsewhere" if ours is None else "a LoRA that was trained with other settings, data or model"
        raise ValueError(f"{path} is {what}, which is not overwritten. Give another name, or move that file away.")
    if state is None:
        return None
    if state["loop"]["step"] > settings.steps:
        raise ValueError(
            f"The training of that name has {state['loop']['step']} steps already. Set steps to as many, or to more to "
            "go on, or give another name."
        )
    if state["identity"] != identity:
        raise ValueError(
            f"There is an unfinished training of that name, with other settings, data or model: "
            f"{_difference(state['identity'], identity)}. Give another name, set them as they were to go on, or delete "
            f"{checkpoint_path(settings.name)}."
        )
    return state


def _difference(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> str:
    found = []
    for part in ("settings", "method"):
        for name in sorted(theirs[part].keys() | ours[part].keys()):
            before, now = theirs[part].get(name), ours[part].get(name)
            if before != now:
                found.append(f"{name} was {before} and is {now}")
    if theirs.get("processes") != ours["processes"]:
        found.append(f"processes were {theirs.get('processes')} and are {ours['processes']}")
    return "; ".join(found) or "the model is another"


def _about(settings: Settings) -> dict[str, str]:
    """The fields of kohya's trainers that tools show."""
    return {
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(settings.lora.rank),
        "ss_network_alpha": str(settings.lora.alpha),
        "ss_output_name": settings.name,
        "ss_max_train_steps": str(settings.steps),
        "ss_seed": str(settings.seed),
    }
