"""Stage 2 of the subject adapter: the image encoder learns what its pictures show, in place of CLIP's pretraining.

From a subject's embedding a small network has to tell its fill, as a picture of 8 x 8 colours about its centre.
"""

import logging
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ..world.names import SHAPES
from ..world.subjects import filled, reference, sample_subject
from .architecture import TEXT_CONFIG
from .computing import Computing
from .parallel import Ranks
from .progress import Clock, learning_rate_factor, save_atomically
from .subject_networks import SubjectEncoder

LEARNING_RATE = 1e-3
BATCH = 48
"""Pictures per step and process."""

FILL_CELLS = 8
CUT_OUT_PROBABILITY = 0.5


def sample_batch(rng: np.random.Generator, count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pictures of subjects (B, 3, 64, 64), their fills (B, 3, 8, 8), and the numbers of their shapes (B,)."""
    pictures, fills, shapes = [], [], []
    for _ in range(count):
        subject = sample_subject(rng)
        pictures.append(reference(rng, subject, cut_out=rng.random() < CUT_OUT_PROBABILITY))
        fills.append(filled(subject, FILL_CELLS / 2, FILL_CELLS / 2, FILL_CELLS / 2, FILL_CELLS))
        shapes.append(SHAPES.index(subject.shape))
    pictures, fills = (torch.from_numpy(np.stack(each)).permute(0, 3, 1, 2).float() for each in (pictures, fills))
    return pictures, fills, torch.tensor(shapes)


def train(ranks: Ranks, computing: Computing, folder: Path, budget: float, seed: int = 22) -> None:
    """Train for `budget` seconds; the result is `encoder.pt` in `folder`."""
    finished = folder / "encoder.pt"
    if finished.exists():
        return
    torch.manual_seed(seed)
    rng = np.random.default_rng((seed, ranks.rank))
    width = TEXT_CONFIG["hidden_size"]
    encoder = SubjectEncoder()
    fill_head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 256), nn.GELU(), nn.Linear(256, 3 * FILL_CELLS**2))
    shape_head = nn.Linear(width, len(SHAPES))
    modules = nn.ModuleList([encoder, fill_head, shape_head]).to(computing.device)
    parameters = list(modules.parameters())
    ranks.broadcast(modules)
    optimiser = torch.optim.AdamW(parameters, LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.01)
    clock, progress, step, losses = Clock(budget), 0.0, 0, []
    while progress < 1.0:
        pictures, fills, shapes = computing.put(*sample_batch(rng, BATCH))
        with computing.autocast():
            embeddings = encoder(pictures)
        told = fill_head(embeddings.float()).view(-1, 3, FILL_CELLS, FILL_CELLS)
        error = (told - fills).abs().mean()
        loss = error + 0.05 * nn.functional.cross_entropy(shape_head(embeddings.float()), shapes)
        optimiser.zero_grad()
        loss.backward()
        progress = ranks.average([parameter.grad for parameter in parameters], clock.progress)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.param_groups[0]["lr"] = LEARNING_RATE * learning_rate_factor(progress, step, 50)
        optimiser.step()
        losses.append(float(error.detach()))
        step += 1
        if ranks.first and step % 50 == 0:
            left = budget - clock.spent
            logging.info("encoder step %d: colours off by %.3f, %.0f s left", step, np.mean(losses[-50:]), left)
    if ranks.first:
        save_atomically(encoder.state_dict(), finished)
    ranks.barrier()
