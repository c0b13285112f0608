"""Subjects of the demo world: shapes with a fill that the text model has no word for, and scenes with them."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np

from .names import IMAGE_SIZE, SHAPES
from .scenes import PALETTE, Thing, paint, palette_rgb, place, sample_background, sample_colour, signed_distance

FILLS = ("two-tone", "stripes", "plain")
ANGLES = (0.0, 90.0)
STRIPE_WIDTH = 0.8
"""In radii; a period is twice as wide. The autoencoder does not keep stripes half as wide."""

SATURATION_RANGE, VALUE_RANGE = (0.7, 1.0), (0.6, 1.0)
"""Of plain colours."""

APART = 0.35
"""How far a plain colour is from those with a name in RGB at least; half of what two colours of one subject are."""

REFERENCE_SIZE = 64
REFERENCE_RADIUS = (18.0, 27.0)
THINGS_PROBABILITY = (0.4, 0.6)
"""How often a scene has one and two things."""

SUBJECT_PROBABILITY = 0.8
"""How often a thing is a subject and not one of the world's colours."""


@dataclass(frozen=True)
class Subject:
    """A shape with a fill: one of ``FILLS``, two colours (RGB in 0..1; a plain one has the first), and the angle in
    degrees across the line or stripes."""

    shape: str
    fill: str
    colours: tuple[tuple[float, float, float], tuple[float, float, float]]
    angle: float


@dataclass(frozen=True)
class SubjectScene:
    """Things on a plain ground, and for each of them its subject, or None where it has its colour."""

    things: tuple[Thing, ...]
    subjects: tuple[Subject | None, ...]
    background: tuple[float, float, float]


def _distance(a, b) -> float:
    return float(np.linalg.norm(np.subtract(a, b)))


def _nameless_colour(rng: np.random.Generator) -> tuple[float, float, float]:
    named = [palette_rgb(name) for name in PALETTE]
    while True:
        colour = colorsys.hsv_to_rgb(rng.random(), rng.uniform(*SATURATION_RANGE), rng.uniform(*VALUE_RANGE))
        if min(_distance(colour, each) for each in named) >= APART:
            return colour


def _two_colours(rng: np.random.Generator) -> tuple[tuple, tuple]:
    while True:
        first, second = (tuple(map(float, palette_rgb(str(each)))) for each in rng.choice(list(PALETTE), 2, False))
        if _distance(first, second) >= 2 * APART:
            return first, second


def sample_subject(rng: np.random.Generator, shape: str | None = None) -> Subject:
    """A subject of any fill; a plain one has a colour without a name, others have two that are far apart."""
    shape = shape or str(rng.choice(SHAPES))
    fill, angle = str(rng.choice(FILLS)), float(rng.choice(ANGLES))
    colours = (_nameless_colour(rng),) * 2 if fill == "plain" else _two_colours(rng)
    return Subject(shape, fill, colours, angle)


def filled(subject: Subject, x: float, y: float, radius: float, size: int) -> np.ndarray:
    """The subject's fill as RGB ``(size, size, 3)``, about its centre in pixels."""
    first, second = (np.asarray(colour, np.float32) for colour in subject.colours)
    if subject.fill == "plain":
        return np.broadcast_to(first, (size, size, 3))
    turned = np.deg2rad(subject.angle)
    axis = np.arange(size, dtype=np.float32) + 0.5
    across = ((axis[None, :] - x) * np.cos(turned) + (axis[:, None] - y) * np.sin(turned)) / radius
    is_first = across < 0 if subject.fill == "two-tone" else np.floor(across / STRIPE_WIDTH + 0.5) % 2 == 0
    return np.where(is_first[..., None], first, second)


def sample_scene(rng: np.random.Generator) -> SubjectScene:
    """One or two things of distinct shapes at random places, most of them subjects."""
    count = 1 + int(rng.choice(len(THINGS_PROBABILITY), p=THINGS_PROBABILITY))
    things, subjects = [], []
    for shape in map(str, rng.choice(SHAPES, count, replace=False)):
        things.append(Thing(shape, sample_colour(rng, shape), None, 0.0, 0.0, 1.0))
        subjects.append(sample_subject(rng, shape) if rng.random() < SUBJECT_PROBABILITY else None)
    return SubjectScene(place(rng, tuple(things)), tuple(subjects), sample_background(rng))


def render(scene: SubjectScene, size: int = IMAGE_SIZE) -> np.ndarray:
    """The picture of a scene, ``(size, size, 3)`` float32 in 0..1."""
    image = np.empty((size, size, 3), np.float32)
    image[:] = scene.background
    for thing, subject in zip(scene.things, scene.subjects, strict=True):
        if subject is None:
            paint(image, thing, palette_rgb(thing.colour))
        else:
            paint(image, thing, filled(subject, thing.x, thing.y, thing.radius, size))
    return image


def reference(rng: np.random.Generator, subject: Subject, cut_out: bool) -> np.ndarray:
    """A picture of the subject alone, ``(64, 64, 3)`` in 0..1, somewhere near its middle; on black if it is cut out."""
    size, radius = REFERENCE_SIZE, rng.uniform(*REFERENCE_RADIUS)
    slack = size / 2 - 1.1 * radius
    x, y = size / 2 + rng.uniform(-slack, slack, 2)
    thing = Thing(subject.shape, "", None, float(x), float(y), float(radius))
    ground = (0.0, 0.0, 0.0) if cut_out else sample_background(rng)
    return render(SubjectScene((thing,), (subject,), ground), size)


def coverage(thing: Thing, cells: int, size: int = IMAGE_SIZE) -> np.ndarray:
    """The part of each cell of a grid ``(cells, cells)`` that a thing covers, found at four points a side."""
    points = (np.arange(cells * 4, dtype=np.float32) + 0.5) * size / (cells * 4)
    inside = signed_distance(
        thing.shape, (points[None, :] - thing.x) / thing.radius, (points[:, None] - thing.y) / thing.radius
    )
    return (inside < 0).reshape(cells, 4, cells, 4).mean((1, 3), dtype=np.float32)
