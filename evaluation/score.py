"""Whether the things in an image are the things a prompt binds together, in the demo model's world of shapes.

What the prompt wants (`wanted.py`) is compared with what `detect` finds in the image (`judge`), first by shape, then by
what each thing carries: its colour, and its mark where the prompt gives it one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from .detect import Detected
from .wanted import Wanted

VERDICTS = (
    "ok",
    "swap",
    "leak",
    "duplicate",
    "extra",
    "missing",
    "wrong colour",
    "wrong mark",
    "unclear",
    "malformed",
)
"""Of an image, each excluding the others; of the shapes first, of what they carry only where all the shapes are right:

- ok: every thing wanted is there with what it should carry, and nothing else is;
- duplicate: a wanted shape stands where another wanted one is missing ("a circle and a square" drawn as two circles);
- malformed: a wanted shape is missing, and something without a known shape is there;
- missing: a wanted shape is not there;
- extra: all wanted shapes are there, and more things;
- swap: two things carry each other's colour or mark; leak: one carries what belongs to another;
- wrong colour, wrong mark: a colour that nothing in the prompt has, a mark that is not there;
- unclear: a thing of several colours.
"""

NOT_JUDGED = "not judged"
_CARRIED = ("swap", "leak", "wrong colour", "wrong mark", "unclear")


@dataclass(frozen=True)
class Outcome:
    """What became of one wanted thing. ``found`` is the index of the detected thing that is taken for it."""

    wanted: Wanted
    verdict: str
    found: int | None = None


@dataclass(frozen=True)
class ImageScore:
    """One image: its verdict, what became of each wanted thing, and the indices of the detected things left over."""

    verdict: str
    outcomes: tuple[Outcome, ...]
    surplus: tuple[int, ...]

    @property
    def judged(self) -> tuple[Outcome, ...]:
        return tuple(outcome for outcome in self.outcomes if outcome.verdict != NOT_JUDGED)

    @property
    def share_right(self) -> float:
        """Share of the judged things that are there with what they should carry; nan if none was judged."""
        return _share(outcome.verdict == "ok" for outcome in self.judged)

    @property
    def presence(self) -> float:
        """Share of the judged things whose shape is there."""
        return _share(outcome.found is not None for outcome in self.judged)

    @property
    def binding(self) -> float:
        """Share of the things that are there that carry what they should; nan if none is there."""
        return _share(outcome.verdict == "ok" for outcome in self.judged if outcome.found is not None)

    @property
    def leakage(self) -> float:
        """Share of the things that are there that carry what belongs to another; nan if none is there."""
        return _share(outcome.verdict in ("swap", "leak") for outcome in self.judged if outcome.found is not None)


class Rated(Protocol):
    """What a summary needs to know of an image: an ImageScore, or one kept in a file."""

    verdict: str
    share_right: float
    presence: float
    binding: float
    leakage: float


@dataclass(frozen=True)
class Summary:
    """Many images: ``rate`` is the share of verdict ok, with its standard error; means leave out nan."""

    n: int
    rate: float
    standard_error: float
    verdicts: dict[str, float]
    share_right: float
    presence: float
    binding: float
    leakage: float


def _share(hits: Iterable[bool]) -> float:
    hits = list(hits)
    return sum(hits) / len(hits) if hits else float("nan")


def _assign(wanted: Sequence[Wanted], found: Sequence[Detected]) -> dict[int, int]:
    """Detected thing of each wanted one, of the same shape; of several the one that carries most of what is asked."""
    from scipy.optimize import linear_sum_assignment

    value = np.zeros((len(wanted), len(found)))
    for row, want in enumerate(wanted):
        for column, thing in enumerate(found):
            if not want.unknown and thing.shape == want.shape:
                colour_fits = want.colour is None or thing.colour == want.colour
                mark_fits = want.mark is None or thing.mark == want.mark
                value[row, column] = 4.0 + 2.0 * colour_fits + mark_fits
    rows, columns = linear_sum_assignment(value, maximize=True)
    return {int(row): int(column) for row, column in zip(rows, columns, strict=True) if value[row, column] > 0}


def _carries(index: int, field: str, wanted: Sequence[Wanted], assigned: dict[int, Detected]) -> str:
    """What a wanted thing carries of one field ("colour" or "mark"): ok, swap, leak, wrong FIELD or unclear."""
    asked, has = getattr(wanted[index], field), getattr(assigned[index], field)
    if has == asked:
        return "ok"
    if has is None:
        return "unclear" if field == "colour" else f"wrong {field}"
    others = [other for other in range(len(wanted)) if other != index]
    belongs_to_another = any(getattr(wanted[other], field) == has for other in others)
    if asked is None:
        return "leak" if field == "mark" and belongs_to_another else "ok"
    if not belongs_to_another:
        return f"wrong {field}"
    is_elsewhere = any(
        getattr(assigned[other], field) == asked != getattr(wanted[other], field)
        for other in others
        if other in assigned
    )
    return "swap" if is_elsewhere else "leak"


def _outcome(index: int, wanted: Sequence[Wanted], assigned: dict[int, int], found: Sequence[Detected]) -> Outcome:
    if wanted[index].unknown:
        return Outcome(wanted[index], NOT_JUDGED)
    if index not in assigned:
        return Outcome(wanted[index], "missing")
    things = {other: found[column] for other, column in assigned.items()}
    carried = {_carries(index, field, wanted, things) for field in ("colour", "mark")}
    return Outcome(wanted[index], _worst(carried), assigned[index])


def _worst(verdicts: Iterable[str]) -> str:
    return next((verdict for verdict in _CARRIED if verdict in verdicts), "ok")


def _verdict(outcomes: Sequence[Outcome], surplus: Sequence[Detected]) -> str:
    judged = [outcome for outcome in outcomes if outcome.verdict != NOT_JUDGED]
    if not judged:
        return NOT_JUDGED
    if any(outcome.verdict == "missing" for outcome in judged):
        left_over = Counter(thing.shape for thing in surplus)
        if any(left_over[outcome.wanted.shape] for outcome in judged):
            return "duplicate"
        return "malformed" if left_over[None] else "missing"
    if surplus and len(judged) == len(outcomes):
        return "extra"
    return _worst([outcome.verdict for outcome in judged])


def judge(wanted: Sequence[Wanted], found: Sequence[Detected]) -> ImageScore:
    """Compare what is wanted with what `detect` found in one image."""
    assigned = _assign(wanted, found)
    outcomes = tuple(_outcome(index, wanted, assigned, found) for index in range(len(wanted)))
    surplus = tuple(column for column in range(len(found)) if column not in assigned.values())
    return ImageScore(_verdict(outcomes, [found[column] for column in surplus]), outcomes, surplus)


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard error of the values that are numbers; nan without any, and no error of a single one."""
    numbers = np.asarray(values, np.float64)
    numbers = numbers[~np.isnan(numbers)]
    if not len(numbers):
        return float("nan"), float("nan")
    error = numbers.std(ddof=1) / np.sqrt(len(numbers)) if len(numbers) > 1 else float("nan")
    return float(numbers.mean()), float(error)


def summarise(scores: Sequence[Rated]) -> Summary:
    """Rates over many images.

    Raises:
        ValueError: there is no image.
    """
    if not scores:
        raise ValueError("There is no image to summarise.")
    verdicts = Counter(score.verdict for score in scores)
    rate, error = mean_and_error([score.verdict == "ok" for score in scores])
    means = {
        field: mean_and_error([getattr(score, field) for score in scores])[0]
        for field in ("share_right", "presence", "binding", "leakage")
    }
    shares = {verdict: verdicts[verdict] / len(scores) for verdict in (*VERDICTS, NOT_JUDGED) if verdicts[verdict]}
    return Summary(len(scores), rate, error, shares, **means)


def paired_difference(scores: Sequence[Rated], plain: Sequence[Rated]) -> tuple[float, float]:
    """Mean and standard error of the difference in "ok", image by image of the same prompt and seed."""
    pairs = zip(scores, plain, strict=True)
    return mean_and_error([float(score.verdict == "ok") - float(other.verdict == "ok") for score, other in pairs])
