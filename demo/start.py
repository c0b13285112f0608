"""Stage 0: with `--start` the networks of an earlier release, from which the later stages go on.

Its autoencoder and text encoder are the results of their stages, which are skipped then; the UNet's stage goes on from
its UNet.
"""

import logging
from pathlib import Path

from safetensors.torch import load_file

from .architecture import TOKEN_IDS_KEY
from .computing import Computing
from .export import checkpoint_parts
from .parallel import Ranks
from .progress import save_atomically
from .text import load_vocabulary

SOURCE_FILE = "start.safetensors"
UNET_FILE = "unet.start.pt"


def train(ranks: Ranks, computing: Computing, folder: Path, budget: float) -> None:
    """Take `start.safetensors` in `folder` apart, if there is one, into what the stages of its networks leave behind.

    Raises:
        ValueError: its text encoder has other words.
    """
    if not (folder / SOURCE_FILE).exists() or (folder / UNET_FILE).exists():
        return
    tensors = load_file(folder / SOURCE_FILE)
    if tensors[TOKEN_IDS_KEY].tolist() != load_vocabulary().token_ids:
        raise ValueError(f"The text encoder of {folder / SOURCE_FILE} has other words than the captions have.")
    for name, part in zip(("vae.pt", "text.pt", UNET_FILE), checkpoint_parts(tensors), strict=True):
        save_atomically(part, folder / name)
    logging.info("going on from the networks of %s", SOURCE_FILE)
