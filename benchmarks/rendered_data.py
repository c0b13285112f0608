"""Pictures of the demo world with true captions and true masks, in a folder as Training Data reads it."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import host
import numpy as np
import torch

SEED = 5
LEAST_THINGS = 2


def rendered(folder: Path, count: int) -> Path:
    """The folder, with ``count`` scenes of two to four things; it is not made again."""
    done = folder / "done"
    if done.exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    scenes, captions, write = (
        host.part("world.scenes"),
        host.part("world.captions"),
        host.part("training.writing").write,
    )
    rng = np.random.default_rng(SEED)
    for _ in range(count):
        scene = _scene(rng, scenes)
        caption = captions.plain_caption(tuple(scene.things[place] for place in rng.permutation(len(scene.things))))
        picture = torch.from_numpy(scenes.render(scene))[None]
        write(folder, picture, [caption], {thing.shape: _mask(thing, scenes)[None] for thing in scene.things})
    done.touch()
    return folder


def _scene(rng: np.random.Generator, scenes):
    while True:
        scene = scenes.sample_scene(rng)
        if len(scene.things) >= LEAST_THINGS:
            return scene


def _mask(thing, scenes) -> torch.Tensor:
    place = np.arange(host.part("world.names").IMAGE_SIZE, dtype=np.float32) + 0.5
    x, y = (place - thing.x) / thing.radius, (place - thing.y) / thing.radius
    return torch.from_numpy((scenes.signed_distance(thing.shape, x[None, :], y[:, None]) <= 0).astype(np.float32))


def captions_of(folder: Path, count: int) -> list[str]:
    """The first so many different captions."""
    texts = Counter(path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.txt")))
    return list(texts)[:count]
