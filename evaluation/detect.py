"""Find the shapes of the demo world in a picture: which shape, which colour, which mark, where.

Coloured pixels are grouped, each group is compared with the six outlines laid over it at equal centre and area, and a
group that fits none is split where its colour changes or at its waist. Needs numpy and scipy only.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ..world.names import COLOURS, SHAPES
from ..world.scenes import palette_rgb, signed_distance

MIN_CHROMA = 0.25
"""Difference of the largest and smallest RGB value from which on a pixel is coloured; the ground is grey."""

MIN_AREA_SHARE = 100.0 / 128.0**2
"""Groups smaller than this share of the picture are specks, not things."""

FIT = 0.80
"""Intersection over union with the best outline from which on a group is that shape."""

PURE = 0.75
"""Share of a thing's pixels that one colour must have to be the thing's colour."""

SMOOTHING = 0.6
"""Standard deviation in pixels of the blur against noise."""

MARK_AREA_SHARE = (0.03, 0.35)
MARK_BAR_ELONGATION = 1.45

CLOSING_REACH = 2, 4
"""Pixels by which a mask is grown and shrunk again to close what a bar at its edge leaves open."""

PIECE_SHARE = 0.25
"""Of that area: the smallest piece of a thing that a bar has cut apart."""

MARK_GAP_SHARE = 0.36
"""Of the square root of a thing's area: how far apart a bar may cut its parts."""

_PALETTE = np.stack([palette_rgb(colour) for colour in COLOURS])


@dataclass(frozen=True, eq=False)
class Detected:
    """One thing found in a picture of H x W pixels.

    `shape` and `colour` are None where nothing fits well enough; `shape_scores` holds the intersection over union with
    each outline and `colour_share` the share of pixels nearest each colour. `box` is (x0, y0, x1, y1), ends exclusive.
    """

    shape: str | None
    colour: str | None
    mark: str | None
    mask: np.ndarray
    box: tuple[int, int, int, int]
    shape_scores: dict[str, float]
    colour_share: dict[str, float]

    @property
    def shape_score(self) -> float:
        """Fit of the best outline, 0..1."""
        return max(self.shape_scores.values())

    @property
    def purity(self) -> float:
        """Share of the most frequent colour, 0..1."""
        return max(self.colour_share.values())


def _unit_moments(shape: str) -> tuple[float, float, float]:
    """Area and centre (x, y) of the outline of radius 1."""
    axis = np.linspace(-1.3, 1.3, 521)
    inside = signed_distance(shape, axis[None, :], axis[:, None]) < 0.0
    rows, columns = np.nonzero(inside)
    return float(inside.sum() * (axis[1] - axis[0]) ** 2), float(axis[columns].mean()), float(axis[rows].mean())


_MOMENTS = {shape: _unit_moments(shape) for shape in SHAPES}


def placed(mask: np.ndarray, shape: str) -> tuple[float, float, float]:
    """Where an outline lies that has the mask's (H, W) centre and area: its own centre (x, y) and its radius, in
    pixels from the picture's corner."""
    rows, columns = np.nonzero(mask)
    unit_area, unit_x, unit_y = _MOMENTS[shape]
    radius = float(np.sqrt(len(rows) / unit_area))
    return float(columns.mean() + 0.5 - unit_x * radius), float(rows.mean() + 0.5 - unit_y * radius), radius


def fit_shapes(mask: np.ndarray) -> dict[str, float]:
    """Intersection over union of a mask (H, W) with each outline at the mask's centre and area."""
    rows, columns = np.nonzero(mask)
    centre_x, centre_y, area = columns.mean(), rows.mean(), len(rows)
    pad = 4
    x = np.arange(columns.min() - pad, columns.max() + pad + 1)
    y = np.arange(rows.min() - pad, rows.max() + pad + 1)
    window = np.zeros((len(y), len(x)), bool)
    window[rows - y[0], columns - x[0]] = True
    scores = {}
    for shape, (unit_area, unit_x, unit_y) in _MOMENTS.items():
        radius = np.sqrt(area / unit_area)
        u = (x - centre_x) / radius + unit_x
        v = (y - centre_y) / radius + unit_y
        outline = signed_distance(shape, u[None, :], v[:, None]) < 0.0
        scores[shape] = float((window & outline).sum() / (window | outline).sum())
    return scores


def _fit(mask: np.ndarray) -> float:
    return max(fit_shapes(mask).values())


def _colour_share(nearest: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    """Share of each colour among the pixels of a mask, its rim left out where enough is left."""
    inner = ndimage.binary_erosion(mask, iterations=2)
    votes = nearest[inner if inner.sum() >= 0.25 * mask.sum() else mask]
    counts = np.bincount(votes[votes >= 0], minlength=len(COLOURS))
    return {colour: float(count / max(counts.sum(), 1)) for colour, count in zip(COLOURS, counts, strict=True)}


def _mark(coloured: np.ndarray, filled: np.ndarray) -> str | None:
    """The white mark on a thing, told from the uncoloured pixels inside it: round is a dot, wide is a bar."""
    inside = ndimage.binary_erosion(filled, iterations=2) & ~coloured
    groups, count = ndimage.label(inside)
    if not count:
        return None
    sizes = ndimage.sum_labels(inside, groups, range(1, count + 1))
    largest = groups == 1 + int(np.argmax(sizes))
    low, high = MARK_AREA_SHARE
    if not low <= largest.sum() / filled.sum() <= high:
        return None
    rows, columns = np.nonzero(largest)
    elongation = (columns.std() + 0.3) / (rows.std() + 0.3)
    return "bar" if elongation > MARK_BAR_ELONGATION else "dot"


def _closed(mask: np.ndarray, reach: int) -> np.ndarray:
    """The mask with openings and gaps of up to twice ``reach`` pixels closed, and its holes filled."""
    pad = 2 * reach
    closed = ndimage.binary_closing(np.pad(mask, pad), iterations=reach)[pad:-pad, pad:-pad] | mask
    return ndimage.binary_fill_holes(closed)


def _fill(mask: np.ndarray) -> np.ndarray:
    """The mask with its holes filled; openings to the outside are closed where it fits an outline better so."""
    filled = ndimage.binary_fill_holes(mask)
    variants = [filled, *(_closed(mask, reach) for reach in CLOSING_REACH)]
    if all((variant == filled).all() for variant in variants):
        return filled
    return max(variants, key=_fit)


def _groups(mask: np.ndarray, min_area: float) -> list[np.ndarray]:
    """Connected groups of a mask that are no specks."""
    labels, count = ndimage.label(mask)
    sizes = ndimage.sum_labels(mask, labels, range(1, count + 1))
    return [labels == index + 1 for index in range(count) if sizes[index] >= min_area]


def _fits(mask: np.ndarray) -> bool:
    return _fit(mask) >= FIT


def _mended(groups: list[np.ndarray]) -> list[np.ndarray]:
    """The groups, those joined that a bar from edge to edge has cut apart: together they fit an outline, and better
    than the larger of them alone."""
    groups = sorted(groups, key=np.sum, reverse=True)
    for index, group in enumerate(groups[:-1]):
        distance = ndimage.distance_transform_edt(~group)
        for other in groups[index + 1 :]:
            gap = distance[other].min()
            if gap > MARK_GAP_SHARE * np.sqrt(group.sum() + other.sum()):
                continue
            whole = _closed(group | other, int(gap / 2) + 2)
            if _fit(whole) >= max(FIT, _fit(ndimage.binary_fill_holes(group))):
                rest = [each for each in groups if each is not group and each is not other]
                return _mended([whole, *rest])
    return groups


def _split_by_colour(mask: np.ndarray, nearest: np.ndarray, min_area: float) -> list[np.ndarray]:
    """The group's parts of one colour each; thin seams of mixed colour between them are dropped."""
    parts = []
    for index in range(len(COLOURS)):
        one = ndimage.binary_opening(mask & (nearest == index))
        parts += [_fill(part) & mask for part in _groups(one, min_area)]
    return parts


def _split_at_waist(mask: np.ndarray, min_area: float) -> list[np.ndarray]:
    """The group cut along the line between its thickest places."""
    depth = ndimage.distance_transform_edt(mask)
    for share in (0.4, 0.55, 0.7, 0.85):
        cores = _groups(depth > share * depth.max(), 4)
        if len(cores) > 1:
            distances = np.stack([ndimage.distance_transform_edt(~core) for core in cores])
            nearest_core = distances.argmin(0)
            parts = [mask & (nearest_core == index) for index in range(len(cores))]
            return [part for part in parts if part.sum() >= min_area]
    return []


def _things(group: np.ndarray, nearest: np.ndarray, min_area: float) -> list[np.ndarray]:
    """The masks of the things that a connected group of coloured pixels consists of."""
    filled = _fill(group)
    pure = max(_colour_share(nearest, group).values()) >= PURE
    if pure and _fits(filled):
        return [filled]
    by_colour = [] if pure else _split_by_colour(filled, nearest, min_area)
    if len(by_colour) > 1 and all(_fits(part) for part in by_colour):
        return by_colour
    if _fits(filled):
        return [filled]
    at_waist = _split_at_waist(filled, min_area)
    if len(at_waist) > 1 and all(_fits(part) for part in at_waist):
        return at_waist
    return by_colour if any(_fits(part) for part in by_colour) else [filled]


def detect(image: np.ndarray) -> list[Detected]:
    """The things in a picture (H, W, 3) of 0..1, from left to right."""
    smooth = ndimage.gaussian_filter(np.clip(np.asarray(image, np.float32), 0.0, 1.0), (SMOOTHING, SMOOTHING, 0.0))
    coloured = smooth.max(2) - smooth.min(2) > MIN_CHROMA
    distance = np.square(smooth[:, :, None, :] - _PALETTE).sum(3)
    nearest = np.where(coloured, distance.argmin(2), -1)
    min_area = MIN_AREA_SHARE * coloured.size
    found = []
    groups = _mended(_groups(coloured, PIECE_SHARE * min_area))
    for group in [group for group in groups if group.sum() >= min_area]:
        for mask in _things(group, nearest, min_area):
            scores, share = fit_shapes(mask), _colour_share(nearest, mask)
            shape, colour = max(scores, key=scores.get), max(share, key=share.get)
            rows, columns = np.nonzero(mask)
            found.append(
                Detected(
                    shape=shape if scores[shape] >= FIT else None,
                    colour=colour if share[colour] >= PURE else None,
                    mark=_mark(coloured, mask),
                    mask=mask,
                    box=(int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1),
                    shape_scores=scores,
                    colour_share=share,
                )
            )
    return sorted(found, key=lambda thing: thing.box[0])
