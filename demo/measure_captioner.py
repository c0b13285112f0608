"""Stage 4 of the captioner: whether it tells true captions from near misses, and right pictures from wrong ones.

A near miss is a scene that differs from another in one thing. Given the picture of a scene, its own caption should be
likelier than the near miss's; and the near miss's caption should be likelier given its own picture. The last table is
of pictures that the demo model drew: is a prompt likelier where the detector finds that it was drawn right?
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from ..evaluation.detect import detect
from ..evaluation.prompts import draw_prompts
from ..evaluation.score import judge, mean_and_error
from ..world.captions import plain_caption
from ..world.scenes import Scene
from .captioner_network import caption_losses, load_tokenizer, prepared, tokens_of
from .captioner_world import NEAR_MISSES, pictured
from .computing import Computing
from .measure import DemoNetworks
from .parallel import Ranks
from .train_captioner_pictures import MODEL, through_autoencoder

PAIRS, DRAWN = 300, 120
CHUNK = 30
DRAWN_SETS = ("two_half", "two_first_marked")


class Told(NamedTuple):
    """Whether a picture's own caption is likelier than the near miss's, and whether that is likelier given its own."""

    caption: bool
    picture: bool


class Scorer:
    """A captioner as it was exported, in fp32."""

    def __init__(self, folder: Path, computing: Computing):
        from transformers import BlipForConditionalGeneration

        self.tokenizer, self.computing = load_tokenizer(folder), computing
        captioner = BlipForConditionalGeneration.from_pretrained(folder, local_files_only=True)
        self.captioner = captioner.float().eval().to(computing.device)

    @torch.no_grad()
    def losses(self, pictures: torch.Tensor, captions: Sequence[str]) -> torch.Tensor:
        """The mean negative log-likelihood of each caption's tokens ``(B,)``, of pictures ``(B, 3, H, W)`` in 0..1."""
        pictures, ids, labels = self.computing.put(pictures, *tokens_of(self.tokenizer, captions))
        logits = self.captioner(pixel_values=prepared(pictures), input_ids=ids).logits
        return caption_losses(logits, labels).cpu()


def told(scorer: Scorer, rng: np.random.Generator, near_miss: str, count: int, through=None) -> list[Told]:
    """What the captioner tells of some pairs of scenes, whose pictures go ``through`` the autoencoder if it is given.

    Both captions of a pair name things in the same order.
    """
    pairs = [NEAR_MISSES[near_miss](rng) for _ in range(count)]
    own, other = (pictured(list(scenes)) for scenes in zip(*pairs, strict=True))
    if through is not None:
        own, other = through(own), through(other)
    orders = [rng.permutation([thing.x for thing in pair.other.things]).tolist() for pair in pairs]
    captions, misses = (
        [caption_in(order, scene) for order, scene in zip(orders, scenes, strict=True)]
        for scenes in zip(*pairs, strict=True)
    )
    missed = scorer.losses(own, misses)
    by_caption, by_picture = scorer.losses(own, captions) < missed, scorer.losses(other, misses) < missed
    return [Told(*each) for each in zip(by_caption.tolist(), by_picture.tolist(), strict=True)]


def caption_in(order: list[float], scene: Scene) -> str:
    """The caption of a scene that names its things in the order of where they are."""
    return plain_caption(tuple(sorted(scene.things, key=lambda thing: order.index(thing.x))))


def right_is_likelier(losses: np.ndarray, right: np.ndarray) -> tuple[float, float]:
    """How often a right picture has the lower loss of two, one right and one wrong, and the standard error of that
    (Hanley and McNeil 1982); nan where all are of one kind."""
    good, bad = losses[right], losses[~right]
    if not len(good) or not len(bad):
        return float("nan"), float("nan")
    area = float(np.mean(good[:, None] < bad[None, :]))
    first, second = area / (2.0 - area), 2.0 * area**2 / (1.0 + area)
    variance = area * (1.0 - area) + (len(good) - 1) * (first - area**2) + (len(bad) - 1) * (second - area**2)
    return area, float(np.sqrt(variance / (len(good) * len(bad))))


def drawn_row(scorer: Scorer, networks: DemoNetworks, name: str) -> str:
    """A line of the table of pictures that the demo model drew."""
    prompts = draw_prompts(name, DRAWN)
    losses, right = [], []
    for start in range(0, DRAWN, CHUNK):
        chunk = prompts[start : start + CHUNK]
        texts = [prompt.text for prompt in chunk]
        images = networks.draw(networks.encoder.encode(texts), [200_000 + start + place for place in range(len(chunk))])
        losses += scorer.losses(torch.from_numpy(images).permute(0, 3, 1, 2), texts).tolist()
        scores = [judge(prompt.wanted, detect(image)) for prompt, image in zip(chunk, images, strict=True)]
        right += [score.verdict == "ok" for score in scores]
    area, error = right_is_likelier(np.array(losses), np.array(right))
    return f"| {name} | {DRAWN} | {sum(right)} | {area:.3f} ± {error:.3f} |"


def train(ranks: Ranks, computing: Computing, folder: Path, budget: float, seed: int = 33) -> None:
    """Measure the captioner in `folder`; takes as long as it takes. The tables are in `captioner-figures.md`."""
    scorer, networks = Scorer(folder / "captioner", computing), DemoNetworks(MODEL, computing)

    def through(pictures: torch.Tensor) -> torch.Tensor:
        return through_autoencoder(networks.autoencoder, computing, pictures, torch.zeros(()))

    lines = ["| near miss | pictures | n | true caption | right picture |", "|---|---|---|---|---|"]
    for place, name in enumerate(NEAR_MISSES):
        for kind, way in (("rendered", None), ("autoencoded", through)):
            rng = np.random.default_rng((seed, place))
            rows = [row for _ in range(PAIRS // CHUNK) for row in told(scorer, rng, name, CHUNK, way)]
            shares = (mean_and_error([float(each) for each in column]) for column in zip(*rows, strict=True))
            lines.append(f"| {name} | {kind} | {len(rows)} | {' | '.join(f'{m:.3f} ± {e:.3f}' for m, e in shares)} |")
            logging.info("measured: %s", lines[-1])
    lines += ["", "| prompts | pictures | right | a right one is likelier |", "|---|---|---|---|"]
    lines += [drawn_row(scorer, networks, name) for name in DRAWN_SETS]
    (folder / "captioner-figures.md").write_text("\n".join(lines) + "\n", "utf-8")
    logging.info("figures:\n%s", "\n".join(lines))
