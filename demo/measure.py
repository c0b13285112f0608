"""Stage 6: the model card's figures, from pictures drawn by the exported model and judged by `evaluation`.

Each cell is a set of prompts under one kind of conditioning. Pictures are made in rounds over all cells, each picture
with a seed of its own, and the verdicts are kept in the output folder, by model: the stage can be stopped at any time
and goes on where it was.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from ..evaluation.detect import detect
from ..evaluation.marks import mark_fates
from ..evaluation.prompts import PROMPT_SETS, draw_prompts
from ..evaluation.score import judge
from ..evaluation.wanted import Wanted
from ..world.names import COLOURS, MARKS, SHAPES
from ..world.scenes import Thing
from .computing import Computing
from .diffusion import sample
from .export import checkpoint_parts
from .figures import tables
from .networks import build_autoencoder, build_unet
from .parallel import Ranks
from .probes import ADJECTIVE_WEIGHT, NOUN_WEIGHT, end_alone, last_noun_alone, merged, sum_of_words, whole
from .progress import Clock
from .text import TextEncoder, load_vocabulary

IMAGES, PROBE_IMAGES = 240, 120
ROUND = 24

ONE_MARKED = "two, the first marked"

Things = tuple[Thing, ...]


@dataclass(frozen=True)
class Cell:
    """What is drawn: the things of a number of prompts, and how a prompt becomes context rows."""

    prompts: Callable[[int], list[Things]]
    context: Callable[[TextEncoder, Things], torch.Tensor] = whole
    images: int = IMAGES


class DemoNetworks:
    """The exported networks, as the training scripts use them: fp32 weights, computed in what is given."""

    def __init__(self, path: Path, computing: Computing):
        self.computing = computing
        self.unet, self.autoencoder, self.encoder = build_unet(), build_autoencoder(), TextEncoder(load_vocabulary())
        networks = (self.autoencoder, self.encoder, self.unet)
        for network, weights in zip(networks, checkpoint_parts(load_file(path)), strict=True):
            network.load_state_dict(weights)
        self.encoder.requires_grad_(False)
        for network in networks:
            network.to(computing.device)

    @torch.no_grad()
    def draw(self, contexts: torch.Tensor, seeds: list[int]) -> np.ndarray:
        """Pictures (B, 128, 128, 3) in 0..1 for context rows (B, 77, D)."""
        with self.computing.autocast():
            latents = sample(self.unet, contexts, self.encoder.encode([""]), seeds)
            decoded = self.autoencoder.taesd_decoder(latents.to(memory_format=torch.channels_last))
        return decoded.float().clamp(0.0, 1.0).permute(0, 2, 3, 1).cpu().numpy()


def thing(shape: str, colour: str, mark: str | None = None) -> Thing:
    """A thing as prompts know it, without a place."""
    return Thing(str(shape), str(colour), mark, 0.0, 0.0, 1.0)


def of_set(name: str, count: int) -> list[Things]:
    """Prompts of one of the evaluation's sets."""
    prompts = draw_prompts(name, count)
    return [tuple(thing(wanted.shape, wanted.colour, wanted.mark) for wanted in prompt.wanted) for prompt in prompts]


def of_random(things: int, marked: int, count: int, seed: int = 7) -> list[Things]:
    """Prompts of distinct shapes in distinct random colours, the first `marked` things with a mark."""
    rng = np.random.default_rng((seed, things, marked))
    prompts = []
    for _ in range(count):
        shapes, colours = rng.permutation(SHAPES)[:things], rng.permutation(COLOURS)[:things]
        marks = [str(rng.choice(MARKS)) if index < marked else None for index in range(things)]
        prompts.append(tuple(map(thing, shapes, colours, marks)))
    return prompts


def cells() -> dict[str, Cell]:
    """All cells of the card by name."""
    found = {name: Cell(partial(of_set, name)) for name in PROMPT_SETS}
    found[ONE_MARKED] = Cell(partial(of_random, 2, 1), images=PROBE_IMAGES)
    found["leakage: end rows alone"] = Cell(partial(of_set, "two_counter"), end_alone, PROBE_IMAGES)
    found["leakage: second noun alone"] = Cell(partial(of_set, "two_counter"), last_noun_alone, PROBE_IMAGES)
    ends = {"nothing": None, "empty prompt": ""}
    for name, end in ends.items():
        context = partial(sum_of_words, end=end)
        found[f"sum of words, then {name}"] = Cell(partial(of_random, 1, 0), context, PROBE_IMAGES)
    weights = {"noun_weight": NOUN_WEIGHT, "adjective_weight": ADJECTIVE_WEIGHT}
    merges = {
        "own end": {"simple_end": False, **weights},
        "simple end": {"simple_end": True, **weights},
        "plain sum, simple end": {"simple_end": True, "noun_weight": 1.0, "adjective_weight": 1.0},
    }
    for prompts in ("single_counter", "two_counter", "two_swap"):
        for name, settings in merges.items():
            cell = Cell(partial(of_set, prompts), partial(merged, **settings), PROBE_IMAGES)
            found[f"merge, {name}: {prompts}"] = cell
    return found


def rounds(wanted: dict[str, Cell], ranks: Ranks) -> Iterator[tuple[str, Cell, list[int]]]:
    """This rank's batches: rounds over the sets of prompts, then rounds over the other cells."""
    for images in (IMAGES, PROBE_IMAGES):
        for start in range(0, images, ROUND):
            for name, cell in wanted.items():
                if cell.images == images:
                    indices = range(start, min(start + ROUND, images))[ranks.rank :: ranks.count]
                    yield name, cell, list(indices)


def rows_of(networks: DemoNetworks, name: str, cell: Cell, indices: list[int]) -> list[dict]:
    """Draw and judge the pictures of these numbers of a cell."""
    prompts = cell.prompts(cell.images)
    contexts = torch.stack([cell.context(networks.encoder, prompts[index]) for index in indices])
    rows = []
    for index, image in zip(indices, networks.draw(contexts, [100_000 + index for index in indices]), strict=True):
        things = prompts[index]
        found = detect(image)
        score = judge([Wanted(item.shape, item.shape, item.colour, item.mark) for item in things], found)
        colours = sorted({item.colour for item in found if item.colour})
        rows.append({"cell": name, "image": index, "verdict": score.verdict, "right": score.share_right})
        rows[-1] |= {"drawn": colours, "asked": [item.colour for item in things]}
        present = sum(outcome.found is not None for outcome in score.outcomes)
        rows[-1] |= {"present": present, "marks": mark_fates(score, found)}
    return rows


def train(ranks: Ranks, computing: Computing, folder: Path, budget: float) -> None:
    """Measure `model.safetensors` in `folder` for at most `budget` seconds; the tables are kept in `figures.md`."""
    model = folder / "model.safetensors"
    stem = f"figures-{hashlib.sha256(model.read_bytes()).hexdigest()[:12]}"
    read = [json.loads(line) for path in folder.glob(f"{stem}.*.jsonl") for line in path.read_text().splitlines()]
    done = {(row["cell"], row["image"]) for row in read}
    networks, clock = DemoNetworks(model, computing), Clock(budget)
    with (folder / f"{stem}.{ranks.rank}.jsonl").open("a") as file:
        for name, cell, indices in rounds(cells(), ranks):
            left = [index for index in indices if (name, index) not in done]
            if not left or clock.progress >= 1.0:
                continue
            for row in rows_of(networks, name, cell, left):
                file.write(json.dumps(row) + "\n")
            file.flush()
            if ranks.first:
                logging.info("measured %s to %d, %.0f s left", name, left[-1] + 1, budget - clock.spent)
    ranks.barrier()
    if ranks.first:
        rows = [json.loads(line) for path in folder.glob(f"{stem}.*.jsonl") for line in path.read_text().splitlines()]
        written = tables(rows, list(cells()), [*PROMPT_SETS, ONE_MARKED])
        (folder / "figures.md").write_text(f"{written}\n")
        logging.info("figures of %s:\n%s", stem, written)
