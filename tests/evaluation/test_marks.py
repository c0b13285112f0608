"""What became of the marks that were asked for, in scenes of known content."""

import numpy as np
import pytest

DOT_CIRCLE, BAR_SQUARE = ("circle", "red", "dot"), ("square", "blue", "bar")
PLACES = ((32.0, 40.0), (92.0, 44.0), (60.0, 98.0))


@pytest.fixture(scope="module")
def fates(part):
    """``fates(wanted, things)``: the fates of the marks of wanted (shape, colour, mark) in a rendered scene."""
    world, score, wanted_thing = part("world.scenes"), part("evaluation.score"), part("evaluation.wanted").Wanted

    def _fates(wanted, things):
        placed = (world.Thing(*thing, x, y, 19.0) for thing, (x, y) in zip(things, PLACES, strict=False))
        found = part("evaluation.detect").detect(world.render(world.Scene(tuple(placed), (0.7, 0.7, 0.7))))
        wanted = [wanted_thing(shape, shape, colour, mark) for shape, colour, mark in wanted]
        return part("evaluation.marks").mark_fates(score.judge(wanted, found), found)

    return _fates


@pytest.mark.parametrize(
    ("things", "expected"),
    [
        ([DOT_CIRCLE, BAR_SQUARE], ["right", "right"]),
        ([("circle", "blue", "dot"), ("square", "red", "bar")], ["right", "right"]),
        ([("circle", "red", "bar"), ("square", "blue", "dot")], ["exchanged", "exchanged"]),
        ([("circle", "red", None), ("square", "blue", "dot")], ["moved", "missing"]),
        ([("circle", "red", "bar"), ("square", "blue", "bar")], ["missing", "right"]),
        ([("circle", "red", None), ("square", "blue", None)], ["missing", "missing"]),
        ([DOT_CIRCLE], ["right", "left out"]),
        ([("circle", "red", "bar")], ["missing", "moved"]),
        ([DOT_CIRCLE, ("star", "blue", "bar")], ["right", "moved"]),
        ([], ["left out", "left out"]),
    ],
)
def test_both_marked(fates, things, expected):
    assert fates((DOT_CIRCLE, BAR_SQUARE), things) == expected


def test_the_same_mark_is_asked_for_twice(fates):
    wanted = (DOT_CIRCLE, ("square", "blue", "dot"))
    assert fates(wanted, [DOT_CIRCLE, ("square", "blue", None)]) == ["right", "missing"]
    assert fates(wanted, [DOT_CIRCLE, ("square", "blue", None), ("star", "red", "dot")]) == ["right", "moved"]


def test_what_has_no_mark_has_no_fate(fates):
    wanted = (("circle", "red", None), BAR_SQUARE)
    assert fates(wanted, [("circle", "red", "bar"), ("square", "blue", None)]) == ["moved"]


def test_marks_survive_blur(part):
    """As after the autoencoder, whose cells are half of the smallest thing's radius."""
    from scipy import ndimage

    world, detect = part("world.scenes"), part("evaluation.detect").detect
    right = []
    for shape in part("world.names").SHAPES:
        for mark in part("world.names").MARKS:
            thing = world.Thing(shape, "green", mark, 60.0, 64.0, world.RADIUS_RANGE[4][0])
            image = world.render(world.Scene((thing,), (0.7, 0.7, 0.7)))
            found = detect(ndimage.gaussian_filter(image, (0.8, 0.8, 0.0)))
            right.append([(each.shape, each.mark) for each in found] == [(shape, mark)])
    assert np.mean(right) > 0.9
