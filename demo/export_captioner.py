"""Stage 3 of the captioner: the folder `captioner` as transformers saves it, with weights in fp16."""

import logging
from pathlib import Path

from .captioner_network import DEVIATION, MEAN, PICTURE_SIZE, build_captioner
from .computing import Computing
from .parallel import Ranks
from .progress import load


def train(ranks: Ranks, computing: Computing, folder: Path, budget: float) -> None:
    """Write the captioner beside its tokenizer; an unfinished one is taken as it was last saved."""
    from transformers import BlipImageProcessor

    captioner = build_captioner()
    if (folder / "captioner.pt").exists():
        captioner.load_state_dict(load(folder / "captioner.pt"))
    else:
        trained = load(folder / "captioner.checkpoint.pt")["parts"]["modules"]
        own = {key: value for key, value in trained.items() if key.startswith("captioner.")}
        captioner.load_state_dict({key.removeprefix("captioner."): value for key, value in own.items()})
    target = folder / "captioner"
    captioner.half().save_pretrained(target)
    size = {"height": PICTURE_SIZE, "width": PICTURE_SIZE}
    BlipImageProcessor(size=size, image_mean=list(MEAN), image_std=list(DEVIATION)).save_pretrained(target)
    megabytes = sum(file.stat().st_size for file in target.iterdir()) / 1e6
    logging.info("%s: %.2f MB", target.name, megabytes)
