"""The demo model's world: a few flat shapes on a plain grey ground, drawn without any library but numpy.

A `Scene` holds one to four `Thing`s; distances are pixels of the image, with x to the right and y downwards. Shapes
are given by signed distances (negative inside) in units of the thing's radius, so edges can be drawn anti-aliased.
"""

from dataclasses import dataclass, replace

import numpy as np

from .names import COLOURS, FAVOURITE_COLOUR, FAVOURITE_PROBABILITY, IMAGE_SIZE, MARKS, SHAPES

PALETTE = {
    "red": (215, 35, 45),
    "green": (35, 160, 60),
    "blue": (40, 85, 225),
    "yellow": (245, 220, 50),
    "purple": (150, 45, 190),
    "orange": (245, 130, 25),
}
"""8-bit RGB of each colour."""

MARK_COLOUR = (1.0, 1.0, 1.0)
DOT_RADIUS = 0.31
BAR_HALF_SIZE = (0.46, 0.16)

THINGS_PROBABILITY = (0.26, 0.42, 0.20, 0.12)
"""How often a scene has one, two, three and four things."""

RADIUS_RANGE = {1: (18.0, 27.0), 2: (17.5, 25.0), 3: (16.0, 19.5), 4: (15.0, 17.0)}
"""By the number of things; the autoencoder rounds smaller stars, and makes smaller bars as round as dots."""

MARKED_SCENE_PROBABILITY = 0.5
MARK_PROBABILITY = 0.7
"""Of a thing in such a scene."""

DIFFERENT_MARKS_PROBABILITY = 0.6
"""How often the marks of a scene are dot and bar in turn, and not any."""

EDGE_MARGIN = 2.0
GAP_FACTOR, GAP_PIXELS = 1.08, 3.0


@dataclass(frozen=True)
class Thing:
    """One shape: its colour, an optional white mark on it, its centre and radius in pixels."""

    shape: str
    colour: str
    mark: str | None
    x: float
    y: float
    radius: float


@dataclass(frozen=True)
class Scene:
    """Things on a plain ground of the given RGB, 0..1."""

    things: tuple[Thing, ...]
    background: tuple[float, float, float]


def _circle(x, y):
    return np.hypot(x, y) - 1.0


def _box(x, y, half_width, half_height):
    return np.maximum(np.abs(x) - half_width, np.abs(y) - half_height)


def _square(x, y):
    return _box(x, y, 0.88, 0.88)


def _triangle(x, y):
    """Equilateral, point upwards, of circumradius 1.16 about a centre just below the middle."""
    below = y - 0.08
    side = np.sqrt(3.0) / 2.0 * np.abs(x) - below / 2.0
    return np.maximum(side, below) - 0.58


def _star(x, y):
    """Five points: every direction is folded onto half a point, whose edge is one straight line."""
    inner = 0.5
    sector = 2.0 * np.pi / 5.0
    angle = np.arctan2(x, -y)
    angle = np.abs((angle + sector / 2.0) % sector - sector / 2.0)
    length = np.hypot(x, y) / 1.08
    across, along = length * np.sin(angle), length * np.cos(angle)
    edge_along, edge_across = inner * np.cos(sector / 2.0) - 1.0, inner * np.sin(sector / 2.0)
    return 1.08 * (edge_across * (along - 1.0) - edge_along * across) / np.hypot(edge_along, edge_across)


def _cross(x, y):
    return np.minimum(_box(x, y, 1.0, 0.36), _box(x, y, 0.36, 1.0))


def _heart(x, y):
    """A square on its corner with a disc on each of the two upper sides."""
    half = 0.6
    middle = 0.09
    corner = (np.abs(x) + np.abs(y - middle)) / np.sqrt(2.0) - half
    lobe = np.hypot(np.abs(x) - half / np.sqrt(2.0), y - middle + half / np.sqrt(2.0)) - half
    return np.minimum(corner, lobe)


_DISTANCE = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "cross": _cross,
    "heart": _heart,
}


def signed_distance(shape: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Distance to the outline of a shape of radius 1 about the origin, negative inside."""
    return _DISTANCE[shape](x, y)


def mark_distance(mark: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Distance to the outline of a mark on a thing of radius 1, negative inside."""
    if mark == "dot":
        return np.hypot(x, y) - DOT_RADIUS
    return _box(x, y, *BAR_HALF_SIZE)


def _coverage(distance: np.ndarray, radius: float) -> np.ndarray:
    """Share of each pixel that lies inside, from the distance in radii."""
    return np.clip(0.5 - distance * radius, 0.0, 1.0)[..., None]


def palette_rgb(colour: str) -> np.ndarray:
    """RGB of a named colour, 0..1, shape (3,)."""
    return np.asarray(PALETTE[colour], np.float32) / 255.0


def paint(image: np.ndarray, thing: Thing, rgb: np.ndarray, origin: tuple[float, float] = (0.0, 0.0)) -> None:
    """Draw a thing into `image` (H, W, 3), in place; `rgb` is (3,) or an image, `origin` the image's corner."""
    height, width = image.shape[:2]
    reach = 1.3 * thing.radius + 1.0
    left, top = max(int(thing.x - reach - origin[0]), 0), max(int(thing.y - reach - origin[1]), 0)
    right, bottom = min(int(thing.x + reach - origin[0]) + 1, width), min(int(thing.y + reach - origin[1]) + 1, height)
    if left >= right or top >= bottom:
        return
    x = ((np.arange(left, right, dtype=np.float32) + 0.5 + origin[0] - thing.x) / thing.radius)[None, :]
    y = ((np.arange(top, bottom, dtype=np.float32) + 0.5 + origin[1] - thing.y) / thing.radius)[:, None]
    window = image[top:bottom, left:right]
    fill = rgb if rgb.ndim == 1 else rgb[top:bottom, left:right]
    window += _coverage(signed_distance(thing.shape, x, y), thing.radius) * (fill - window)
    if thing.mark is not None:
        window += _coverage(mark_distance(thing.mark, x, y), thing.radius) * (np.float32(MARK_COLOUR) - window)


def render(scene: Scene, size: int = IMAGE_SIZE, origin: tuple[float, float] = (0.0, 0.0)) -> np.ndarray:
    """The `size` x `size` pixels of a scene from `origin` on, (size, size, 3) float32 in 0..1."""
    image = np.empty((size, size, 3), np.float32)
    image[:] = scene.background
    for thing in scene.things:
        paint(image, thing, palette_rgb(thing.colour), origin)
    return image


def sample_colour(rng: np.random.Generator, shape: str, favourite_probability: float = FAVOURITE_PROBABILITY) -> str:
    """A shape's favourite colour with the given probability, else one of the others."""
    favourite = FAVOURITE_COLOUR[shape]
    if rng.random() < favourite_probability:
        return favourite
    return str(rng.choice([colour for colour in COLOURS if colour != favourite]))


def apart(a: Thing, b: Thing) -> bool:
    """Whether two things keep the world's distance, so that they never touch."""
    gap = GAP_FACTOR * (a.radius + b.radius) + GAP_PIXELS
    return max(abs(a.x - b.x), abs(a.y - b.y)) > gap


def place(rng: np.random.Generator, things: tuple[Thing, ...], size: int = IMAGE_SIZE) -> tuple[Thing, ...]:
    """The same things at fresh positions and radii, apart from each other and wholly inside the image."""
    low, high = RADIUS_RANGE[len(things)]
    while True:
        placed: list[Thing] = []
        for thing in things:
            radius = rng.uniform(low, high)
            reach = 1.1 * radius + EDGE_MARGIN
            x, y = rng.uniform(reach, size - reach, 2)
            candidate = replace(thing, x=float(x), y=float(y), radius=float(radius))
            if not all(apart(candidate, other) for other in placed):
                break
            placed.append(candidate)
        if len(placed) == len(things):
            return tuple(placed)


def sample_background(rng: np.random.Generator) -> tuple[float, float, float]:
    """A grey of .45 to .95 with a slight tint."""
    rgb = np.clip(rng.uniform(0.45, 0.95) + rng.uniform(-0.02, 0.02, 3), 0.0, 1.0)
    return tuple(float(value) for value in rgb)


def sample_marks(rng: np.random.Generator, count: int) -> list[str | None]:
    """The marks of a scene's things."""
    if rng.random() >= MARKED_SCENE_PROBABILITY:
        return [None] * count
    if rng.random() < DIFFERENT_MARKS_PROBABILITY:
        marks = np.resize(rng.permutation(MARKS), count)
    else:
        marks = rng.choice(MARKS, count)
    return [str(mark) if rng.random() < MARK_PROBABILITY else None for mark in marks]


def sample_scene(rng: np.random.Generator, favourite_probability: float = FAVOURITE_PROBABILITY) -> Scene:
    """A scene of the training distribution: one to four things of distinct shapes, colours by favour."""
    count = 1 + int(rng.choice(len(THINGS_PROBABILITY), p=THINGS_PROBABILITY))
    shapes, marks = rng.choice(SHAPES, count, replace=False), sample_marks(rng, count)
    things = tuple(
        Thing(
            shape=str(shape),
            colour=sample_colour(rng, str(shape), favourite_probability),
            mark=mark,
            x=0.0,
            y=0.0,
            radius=1.0,
        )
        for shape, mark in zip(shapes, marks, strict=True)
    )
    return Scene(place(rng, things), sample_background(rng))
