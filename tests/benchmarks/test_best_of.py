"""The comparison of the best of several pictures with techniques: shares and costs by hand."""

import pytest


def test_shares_and_costs(benchmark):
    best_of = benchmark("best_of")
    right = (True, False, False, False, False, False, False, True)
    scores = {
        best_of.ATTENTION: (9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0),
        best_of.JUDGE: (1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0),
    }
    groups = [
        best_of.Group("three", number, name, right, scores, seconds)
        for number, plain in enumerate((2.0, 4.0))
        for name, seconds in ((best_of.PLAIN, plain), (best_of.NAMES[1], 1.5 * plain))
    ]
    records = {(each["workflow"], each["best by"]): each for each in best_of.records_of(groups)}
    by_attention = records[best_of.PLAIN, best_of.ATTENTION]
    # Of two pictures the first is the best where it is drawn, one time in four; the last never is.
    assert by_attention["best of 1"] == pytest.approx(1 / 4) and by_attention["best of 2"] == pytest.approx(1 / 4)
    assert by_attention["best of 8"] == 1.0
    by_judge, any_of = records[best_of.PLAIN, best_of.JUDGE], records[best_of.PLAIN, best_of.ANY]
    assert by_judge["best of 2"] == any_of["best of 2"] == pytest.approx(1 - 15 / 28)
    assert by_attention["cost"] == 1.0 and records[best_of.NAMES[1], best_of.ANY]["cost"] == pytest.approx(1.5)
