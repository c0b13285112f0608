"""What the captioner learns from and is judged by: scenes of any kind, near misses, and how pictures are spoilt."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional

from ..world.names import COLOURS, IMAGE_SIZE, MARKS, SHAPES
from ..world.scenes import Scene, render, sample_scene
from ..world.subjects import coverage

FAVOURITE_PROBABILITY = 1.0 / len(COLOURS)
"""Colours and shapes have nothing to do with each other here: the captioner is to look, not to guess."""

REPEATED_PROBABILITY = {"shape": 0.12, "colour": 0.2}
"""How often a thing takes what another has, as in pictures that were drawn wrong. Colours are the easiest to tell;
a thing's mark is to be found by its shape as well."""

BLUR_PROBABILITY, BLUR_DEVIATION = 0.4, (0.3, 1.2)
NOISE_PROBABILITY, NOISE_DEVIATION = 0.7, 0.1
BRIGHTNESS, CONTRAST = 0.06, 0.12
"""Pictures are spoilt before the captioner sees them. What it tells is to be climbed along its gradient, and so may not
hang on what no eye sees."""

NONE = -1


class NearMiss(NamedTuple):
    """A scene, and another that differs from it in one thing."""

    scene: Scene
    other: Scene


def sample_any_scene(rng: np.random.Generator) -> Scene:
    """A scene in any colours; now and then with a shape twice, and with a colour twice more often than by chance."""
    scene = sample_scene(rng, FAVOURITE_PROBABILITY)
    if len(scene.things) == 1:
        return scene
    first, second, *others = scene.things
    for field, probability in REPEATED_PROBABILITY.items():
        if rng.random() < probability:
            second = replace(second, **{field: getattr(first, field)})
    return replace(scene, things=(first, second, *others))


def pictured(scenes: list[Scene]) -> torch.Tensor:
    """The pictures of scenes ``(B, 3, 128, 128)`` in 0..1."""
    return torch.from_numpy(np.stack([render(scene) for scene in scenes])).permute(0, 3, 1, 2).contiguous()


def mirrored(scene: Scene) -> Scene:
    """The scene of the mirrored picture: every shape and mark is its own mirror image."""
    return replace(scene, things=tuple(replace(thing, x=IMAGE_SIZE - thing.x) for thing in scene.things))


def content_of_patches(scene: Scene, cells: int) -> np.ndarray:
    """Numbers of shape, colour and mark (its last number: no mark) of the thing in each cell of a grid ``(3, cells,
    cells)``; ``NONE`` where no thing has more than a third of it."""
    found = np.full((3, cells, cells), NONE)
    for thing in scene.things:
        covered = coverage(thing, cells) > 1 / 3
        mark = MARKS.index(thing.mark) if thing.mark else len(MARKS)
        found[:, covered] = np.array([SHAPES.index(thing.shape), COLOURS.index(thing.colour), mark])[:, None]
    return found


def spoilt(rng: np.random.Generator, pictures: torch.Tensor) -> torch.Tensor:
    """Pictures ``(B, 3, H, W)`` with other brightness and contrast, some blurred, and with noise."""
    count = len(pictures)

    def drawn(low: float, high: float) -> torch.Tensor:
        return torch.from_numpy(rng.uniform(low, high, (count, 1, 1, 1)).astype(np.float32))

    pictures = (pictures - 0.5) * (1.0 + drawn(-CONTRAST, CONTRAST)) + 0.5 + drawn(-BRIGHTNESS, BRIGHTNESS)
    blurred = torch.from_numpy(rng.random(count) < BLUR_PROBABILITY)
    if blurred.any():
        pictures[blurred] = _blurred(pictures[blurred], float(rng.uniform(*BLUR_DEVIATION)))
    deviation = drawn(0.0, NOISE_DEVIATION) * (drawn(0.0, 1.0) < NOISE_PROBABILITY)
    noise = torch.from_numpy(rng.standard_normal(tuple(pictures.shape), np.float32))
    return pictures + deviation * noise


def _blurred(pictures: torch.Tensor, deviation: float) -> torch.Tensor:
    reach = int(np.ceil(2.5 * deviation))
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / deviation).square())
    kernel = (kernel / kernel.sum()).expand(3, 1, 1, -1)
    padded = functional.pad(pictures, (reach,) * 4, mode="replicate")
    return functional.conv2d(functional.conv2d(padded, kernel, groups=3), kernel.transpose(2, 3), groups=3)


def exchanged_colours(rng: np.random.Generator) -> NearMiss:
    """Two things of a scene have each other's colour."""
    while True:
        scene = sample_scene(rng, FAVOURITE_PROBABILITY)
        if len({thing.colour for thing in scene.things[:2]}) == 2:
            first, second, *others = scene.things
            things = replace(first, colour=second.colour), replace(second, colour=first.colour), *others
            return NearMiss(scene, replace(scene, things=things))


def one_more(rng: np.random.Generator) -> NearMiss:
    """The other has one thing more."""
    while True:
        scene = sample_scene(rng, FAVOURITE_PROBABILITY)
        if len(scene.things) > 1:
            left_out = int(rng.integers(len(scene.things)))
            things = scene.things[:left_out] + scene.things[left_out + 1 :]
            return NearMiss(replace(scene, things=things), scene)


def moved_mark(rng: np.random.Generator) -> NearMiss:
    """Of two things each has the mark that the other had, or none if that had none."""
    while True:
        scene = sample_scene(rng, FAVOURITE_PROBABILITY)
        if len({thing.mark for thing in scene.things[:2]}) == 2:
            first, second, *others = scene.things
            things = replace(first, mark=second.mark), replace(second, mark=first.mark), *others
            return NearMiss(scene, replace(scene, things=things))


NEAR_MISSES = {
    "colours exchanged": exchanged_colours,
    "one thing more": one_more,
    "a mark moved": moved_mark,
}
"""By what differs. In all of them things of a scene have distinct shapes."""
