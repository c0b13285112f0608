"""What can be chosen for a training with CoMat, and the task that is made of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import comfy.model_management
import comfy.utils
import folder_paths

from ...parsing import models
from ...segmentation import detector_files, sam
from ..identity import weights_digest
from ..network import Network
from ..options import MANY, SHARED, Option
from . import captioner_files
from .captioner import Captioner
from .decoding import decoder_of
from .finding import BOX_THRESHOLD, TEXT_THRESHOLD, ByAttention, BySegmenter, ByShape, Finder
from .losses import Weights
from .reading import described, lines_of, read
from .task import CoMat, Fidelity, Rollouts

MASKS = DETECTOR, ATTENTION, DEMO_WORLD, NONE = "detector", "attention", "demo world", "off"
FIDELITY = PUBLISHED, CUSTOM, OFF = "as published", "custom", "off"
DETACHED = AUTO, YES, NO = "as published", "yes", "no"
PUBLISHED_FIDELITY = {"SD": (1.0, 2e-5), "SDXL": (0.5, 5e-5)}
"""The weight of the fidelity loss and the learning rate of the discriminator."""
PARSERS = "spacy"
folder_paths.add_model_folder_path(PARSERS, os.path.join(folder_paths.models_dir, PARSERS))

INPUTS: dict[str, Option] = {
    **SHARED,
    "name": Option("comat"),
    "size": Option(512, 64, 4096),
    "rank": Option(128, 1, 1024),
    "alpha": Option(128.0, 0.01, 1024.0),
    "learning_rate": Option(5e-5, 1e-9, 1.0),
    "clip_norm": Option(0.1, 0.0, 1000.0),
    "detector": Option(detector_files.REPOSITORIES[0]),
    "download": Option(False),
    "box_threshold": Option(BOX_THRESHOLD, 0.0, 1.0),
    "text_threshold": Option(TEXT_THRESHOLD, 0.0, 1.0),
    "token_weight": Option(Weights.token, 0.0, 1000.0),
    "pixel_weight": Option(Weights.pixel, 0.0, 1000.0),
    "fidelity_weight": Option(Weights.fidelity, 0.0, 1000.0),
    "discriminator_rate": Option(PUBLISHED_FIDELITY["SD"][1], 1e-9, 1.0),
    "untrained_pictures": Option(0, 0, MANY),
    "entities": Option(""),
    "parser": Option(models.AUTO),
    "sampling_steps": Option(Rollouts.steps, 1, 1000),
    "cfg": Option(Rollouts.scale, 0.0, 100.0),
    "gradient_steps": Option(Rollouts.gradient_steps, 1, 1000),
    "captured_steps": Option(Rollouts.captured_steps, 1, 1000),
    "detached": Option(AUTO, choices=DETACHED),
}
"""What node and run.py have in common. Published are rank 128 at a factor of 1, these rates for SD1.5, and steps of 32
prompts."""
OPTIONS: dict[str, Option] = {
    "prompts": Option(None),
    "captioner": Option(""),
    "masks": Option(NONE, choices=MASKS),
    "segmenter": Option(""),
    "fidelity": Option(PUBLISHED, choices=FIDELITY),
    **INPUTS,
}
"""What run.py is given: also a file of prompts, one a line, and the names of a captioner and of Segment Anything, which
are not downloaded."""


class Networks(NamedTuple):
    """What is loaded for a training: the last two where they are wanted."""

    model: Any
    vae: Any
    clip: Any
    captioner: Captioner | None = None
    segmenter: sam.Segmenter | None = None


def from_options(
    chosen: Mapping[str, Any], model, vae, clip, say: Callable[[str], None]
) -> tuple[CoMat, tuple[str, ...]]:
    """The task of chosen OPTIONS, and a line for whatever of the prompts has no effect.

    Raises:
        ValueError: as ``task_of``, or a file is not there.
    """
    file = Path(chosen["prompts"])
    if not file.is_file():
        raise ValueError(f'There is no file "{file}" of prompts.')
    captioner = captioner_files.load(chosen["captioner"], False) if chosen["captioner"] else None
    segmenter = sam.load(chosen["segmenter"]) if chosen["masks"] == DETECTOR else None
    networks = Networks(model, vae, clip, captioner, segmenter)
    return task_of(file.read_text("utf-8"), networks, chosen, say)


def task_of(
    prompts: str, networks: Networks, chosen: Mapping[str, Any], say: Callable[[str], None]
) -> tuple[CoMat, tuple[str, ...]]:
    """The task of prompts, one a line, and a line for whatever of them has no effect.

    Args:
        chosen: the values of INPUTS, of ``masks`` and of ``fidelity``.
        say: is told how far it is.

    Raises:
        ValueError: the model, VAE or CLIP cannot be used, a network is missing, or all parts are off.
    """
    if chosen["size"] % 64:
        raise ValueError(f'"size" is {chosen["size"]}. It must be a multiple of 64.')
    model, vae, clip = networks[:3]
    Network(model)  # whose errors are to come before all prompts are read
    channels, sdxl = model.get_model_object("latent_format").latent_channels, model.model.adm_channels > 0
    decoder, finder = decoder_of(vae, channels), finder_of(chosen, networks)
    texts = lines_of(prompts)
    if networks.captioner is not None:
        networks.captioner.check(texts)
    entities = None if finder is None else described(chosen["entities"], len(texts))
    progress = comfy.utils.ProgressBar(len(texts))

    def reading(number: int) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        say(f"reading prompt {number} of {len(texts)}")
        progress.update_absolute(number)

    def drawing(done: int, count: int) -> None:
        say(f"drawing picture {done + 1} of {count} with the untrained model")
        progress.update_absolute(done, count)

    def parser():
        return models.load(chosen["parser"], folder_paths.get_folder_paths(PARSERS))

    found = read(texts, model, clip, chosen["size"], entities, parser, reading)
    fidelity, weight = fidelity_of(chosen, len(texts), sdxl)
    side = chosen["size"] // decoder.scale
    task = CoMat(
        prompts=found,
        latent_shape=(channels, side, side),
        decoder=decoder,
        captioner=networks.captioner,
        finder=finder,
        fidelity=fidelity,
        weights=Weights(fidelity=weight, token=chosen["token_weight"], pixel=chosen["pixel_weight"]),
        rollouts=Rollouts(
            steps=chosen["sampling_steps"],
            scale=chosen["cfg"],
            gradient_steps=chosen["gradient_steps"],
            captured_steps=chosen["captured_steps"],
            detached={AUTO: sdxl, YES: True, NO: False}[chosen["detached"]],
        ),
        digest=digest_of(networks, finder, chosen),
        drawing=drawing,
    )
    return task, found.notes


def finder_of(chosen: Mapping[str, Any], networks: Networks) -> Finder | None:
    """How masks are found; None if none are wanted.

    Raises:
        ValueError: a network for it is missing, or cannot be loaded.
    """
    if chosen["masks"] == DETECTOR:
        if networks.segmenter is None:
            raise ValueError(
                f'With masks "{DETECTOR}" there must be a segmenter: connect Load SAM. "{ATTENTION}" needs none, and '
                f'"{NONE}" trains without masks.'
            )
        detector = detector_files.load(chosen["detector"], chosen["download"])
        return BySegmenter(detector, networks.segmenter, chosen["box_threshold"], chosen["text_threshold"])
    return {ATTENTION: ByAttention(), DEMO_WORLD: ByShape(), NONE: None}[chosen["masks"]]


def fidelity_of(chosen: Mapping[str, Any], prompts: int, sdxl: bool) -> tuple[Fidelity | None, float]:
    """The discriminator and the weight of its loss; None if it is off."""
    if chosen["fidelity"] == OFF:
        return None, 0.0
    weight, rate = PUBLISHED_FIDELITY["SDXL" if sdxl else "SD"]
    if chosen["fidelity"] == CUSTOM:
        weight, rate = chosen["fidelity_weight"], chosen["discriminator_rate"]
    return Fidelity(rate, chosen["untrained_pictures"] or prompts), weight


def detectors() -> list[str]:
    """Those that Detect Entities has, too."""
    return detector_files.available()


def parsers() -> list[str]:
    """Those that Bind Prompt has, too."""
    return models.choices(folder_paths.get_folder_paths(PARSERS))


def digest_of(networks: Networks, finder: Finder | None, chosen: Mapping[str, Any]) -> str:
    """Tells the encoders, and how masks are found."""
    vae, clip = networks.vae, networks.clip
    digests = [
        weights_digest(vae.patcher),
        weights_digest(clip.patcher),
        f"layer {clip.layer_idx}",
        f"masks {chosen['masks']}",
    ]
    if isinstance(finder, BySegmenter):
        digests += [weights_digest(each.patcher) for each in (finder.detector, finder.segmenter)]
        digests += [f"thresholds {finder.box_threshold} {finder.text_threshold}"]
    return ", ".join(digests)
