"""How well a score tells right pictures from wrong ones: areas under the curve, the best of several, and fits.

Pictures of one prompt are alike, so standard errors are over prompts: those of the jackknife that leaves out one prompt
at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import comb

import numpy as np


@dataclass(frozen=True)
class Pairs:
    """Pairs of a right picture and a wrong one, by the prompts of both ``(P, P)``: how many there are (``count``), and
    in how many of them the right one has the ``higher`` score. Equal scores are half of one."""

    higher: np.ndarray
    count: np.ndarray

    def area(self) -> tuple[float, float]:
        """The area under the ROC curve and its standard error; nan without any pair."""
        return _ratio(self.higher.sum(), self.count.sum(), *map(_with_each, (self.higher, self.count)))

    def area_within_prompts(self) -> tuple[float, float]:
        """The same of pairs of the same prompt: whether it tells which of the pictures to keep."""
        higher, count = self.higher.diagonal(), self.count.diagonal()
        return _ratio(higher.sum(), count.sum(), higher, count)


def pairs(scores: np.ndarray, right: np.ndarray, prompts: np.ndarray) -> Pairs:
    """The pairs among pictures ``(n,)``; ``prompts`` are numbers from 0 on."""
    count = int(prompts.max(initial=-1)) + 1
    above, below = scores[right], scores[~right]
    higher = (above[:, None] > below[None]) + 0.5 * (above[:, None] == below[None])
    of_right, of_wrong = (np.eye(count)[prompts[which]] for which in (right, ~right))
    return Pairs(of_right.T @ higher @ of_wrong, np.outer(of_right.sum(0), of_wrong.sum(0)))


def best_of(scores: np.ndarray, right: np.ndarray, count: int) -> float:
    """How probably the picture with the highest score among ``count``, drawn from these at random, is right; of equal
    scores each may be the one."""
    _, rank = np.unique(-scores, return_inverse=True)
    ordered = (np.bincount(rank, right) / np.bincount(rank))[np.sort(rank)]
    ways = [comb(len(ordered) - 1 - place, count - 1) for place in range(len(ordered))]
    return float(np.dot(ordered, ways) / comb(len(ordered), count))


def any_of(right: np.ndarray, count: int) -> float:
    """How probably any among ``count`` pictures, drawn from these at random, is right."""
    return 1 - comb(int((~right).sum()), count) / comb(len(right), count)


@dataclass(frozen=True)
class Logistic:
    """A weighted sum of features, each scaled to mean 0 and variance 1."""

    mean: np.ndarray
    deviation: np.ndarray
    weights: np.ndarray

    def scores(self, features: np.ndarray) -> np.ndarray:
        return (features - self.mean) / self.deviation @ self.weights


def fitted(features: np.ndarray, right: np.ndarray, ridge: float = 1.0) -> Logistic:
    """The logistic regression of ``right (n,)`` on ``features (n, F)``, by Newton's method, with a ridge on the
    weights."""
    mean, deviation = features.mean(0), features.std(0) + 1e-12
    inputs = np.column_stack([(features - mean) / deviation, np.ones(len(features))])
    penalty = np.diag([ridge] * features.shape[1] + [0.0])
    weights = np.zeros(inputs.shape[1])
    for _ in range(50):
        predicted = 1 / (1 + np.exp(-inputs @ weights))
        slope = inputs.T @ (predicted - right) + penalty @ weights
        curvature = (inputs * (predicted * (1 - predicted))[:, None]).T @ inputs + penalty
        change = np.linalg.solve(curvature + 1e-9 * np.eye(len(weights)), slope)
        weights = weights - change
        if np.abs(change).max() < 1e-8:
            break
    return Logistic(mean, deviation, weights[:-1])


def _with_each(square: np.ndarray) -> np.ndarray:
    """What of the sum of ``(P, P)`` has to do with each prompt."""
    return square.sum(0) + square.sum(1) - square.diagonal()


def _ratio(above: float, below: float, of_above: np.ndarray, of_below: np.ndarray) -> tuple[float, float]:
    """``above / below``, and its standard error by the jackknife, where a prompt less is so much less of both."""
    if below == 0:
        return float("nan"), float("nan")
    taking_part = of_below > 0
    left = below - of_below[taking_part]
    if len(left) < 2 or not left.all():
        return float(above / below), float("nan")
    without = (above - of_above[taking_part]) / left
    return float(above / below), float(np.sqrt((len(left) - 1) * without.var()))
