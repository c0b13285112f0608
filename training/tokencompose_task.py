"""What TokenCompose is to train with: from a folder or read data, and the encoders of a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .data import TrainingData, digest_of, read_folder, report
from .grounding import PIXEL_WEIGHT, TOKEN_WEIGHT
from .identity import weights_digest
from .network import Network
from .options import SHARED, Option
from .prepare import encoded
from .tokencompose import TokenCompose

INPUTS: dict[str, Option] = {
    **SHARED,
    "name": Option("tokencompose"),
    "token_weight": Option(TOKEN_WEIGHT, 0.0, 1000.0),
    "pixel_weight": Option(PIXEL_WEIGHT, 0.0, 1000.0),
}
"""What the node asks for. As published: batch 1, four of them in a step, clipped at 1, no schedule, both weights."""
OPTIONS: dict[str, Option] = {"data": Option(None), "size": Option(512, 64, 4096), **INPUTS}
"""What run.py is given: also the folder of the data, and the side of the square its pictures are cropped to."""


def from_options(
    chosen: Mapping[str, Any], model, vae, clip, say: Callable[[str], None]
) -> tuple[TokenCompose, tuple[str, ...]]:
    """The task of chosen OPTIONS, and a line for whatever of the captions was left out.

    Raises:
        ValueError: as ``task_of``, or there is nothing to train with in the folder.
    """
    folder = Path(chosen["data"])
    if not folder.is_dir():
        raise ValueError(f'There is no folder "{folder}" of training data.')
    if chosen["size"] % 64:
        raise ValueError(f'"size" is {chosen["size"]}. It must be a multiple of 64.')
    found = read_folder(folder)
    data = TrainingData(folder, found.items, found.broken, chosen["size"], digest_of(found.items))
    say(report(data))
    return task_of(data, model, vae, clip, chosen, say)


def task_of(
    data: TrainingData, model, vae, clip, chosen: Mapping[str, Any], say: Callable[[str], None]
) -> tuple[TokenCompose, tuple[str, ...]]:
    """The task of read data, and a line for whatever of the captions was left out.

    Args:
        chosen: the weights of the losses, among others.
        say: is told how far it is.

    Raises:
        ValueError: the model, VAE or CLIP cannot be used.
    """
    Network(model)  # whose errors are to come before all pictures are encoded
    found = encoded(data, model, vae, clip, say)
    encoders = map(weights_digest, (vae.patcher, clip.patcher))
    digest = f"{data.digest}, {data.size} pixels, encoders {' '.join(encoders)}, layer {clip.layer_idx}"
    return TokenCompose(found.samples, digest, chosen["token_weight"], chosen["pixel_weight"]), found.notes
