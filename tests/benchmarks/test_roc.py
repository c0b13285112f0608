"""Areas under the curve, the best of several and logistic fits, against slow and obvious versions of them."""

from itertools import combinations

import numpy as np
import pytest


@pytest.fixture
def roc(benchmark):
    return benchmark("roc")


@pytest.fixture
def drawn():
    """Scores with ties, whether right, and prompts, of 40 pictures of 5 prompts."""
    rng = np.random.default_rng(3)
    right = rng.random(40) < 0.4
    return np.round(rng.normal(size=40) + right, 1), right, np.repeat(np.arange(5), 8)


def area(scores, right, prompts=None):
    """By counting; of pairs of the same prompt if there are prompts."""
    counted = [
        (scores[i] > scores[j]) + 0.5 * (scores[i] == scores[j])
        for i in np.flatnonzero(right)
        for j in np.flatnonzero(~right)
        if prompts is None or prompts[i] == prompts[j]
    ]
    return np.mean(counted)


def test_areas(roc, drawn):
    scores, right, prompts = drawn
    pairs = roc.pairs(scores, right, prompts)
    assert pairs.area()[0] == pytest.approx(area(scores, right))
    assert pairs.area_within_prompts()[0] == pytest.approx(area(scores, right, prompts))


def test_errors_are_those_of_leaving_out_a_prompt(roc, drawn):
    scores, right, prompts = drawn
    pairs = roc.pairs(scores, right, prompts)
    for found, of_prompts in ((pairs.area(), None), (pairs.area_within_prompts(), prompts)):
        kept = [prompts != each for each in range(5)]
        left = [area(scores[one], right[one], None if of_prompts is None else of_prompts[one]) for one in kept]
        assert found[1] == pytest.approx(np.sqrt(4 / 5 * np.sum((np.array(left) - np.mean(left)) ** 2)))


def test_perfect_reversed_and_none(roc):
    right, prompts = np.array([True, True, False, False]), np.array([0, 1, 0, 1])
    assert roc.pairs(np.array([3.0, 4, 1, 2]), right, prompts).area() == (1, 0)
    assert roc.pairs(np.array([1.0, 2, 3, 4]), right, prompts).area_within_prompts() == (0, 0)
    assert np.isnan(roc.pairs(np.array([1.0, 2, 3, 4]), right, np.array([0, 0, 1, 1])).area_within_prompts()).all()
    assert np.isnan(roc.pairs(np.ones(4), np.ones(4, bool), prompts).area()).all()


@pytest.mark.parametrize("count", [1, 2, 4, 8])
def test_best_of_is_the_mean_over_all_choices(roc, count):
    rng = np.random.default_rng(1)
    scores, right = rng.permutation(8).astype(float), np.arange(8) < 3
    chosen = [list(each) for each in combinations(range(8), count)]
    expected = np.mean([right[each][np.argmax(scores[each])] for each in chosen])
    assert roc.best_of(scores, right, count) == pytest.approx(expected)
    assert roc.any_of(right, count) == pytest.approx(np.mean([right[each].any() for each in chosen]))


def test_equal_scores_choose_no_better_than_chance(roc):
    for right in (np.array([True, False, False, False]), np.array([False, False, False, True])):
        assert roc.best_of(np.zeros(4), right, 4) == pytest.approx(0.25)


def test_fit_is_the_minimum_of_its_loss(roc):
    from scipy.optimize import minimize

    rng = np.random.default_rng(2)
    features = rng.normal(size=(200, 3)) * (1, 5, 0.1) + (0, 3, 1)
    right = rng.random(200) < 1 / (1 + np.exp(-features[:, 0] + 0.4 * features[:, 1]))
    fitted = roc.fitted(features, right, ridge=2.0)
    scaled = (features - features.mean(0)) / features.std(0)

    def loss(values):
        logits = scaled @ values[:3] + values[3]
        return np.logaddexp(0, logits).sum() - logits[right].sum() + (values[:3] ** 2).sum()

    expected = minimize(loss, np.zeros(4), tol=1e-12).x
    assert fitted.weights == pytest.approx(expected[:3], abs=1e-4)
    assert fitted.scores(features) == pytest.approx(scaled @ expected[:3], abs=1e-3)
