"""Subjects of the demo world: how they are drawn, found again and told apart; and the training of their adapter."""

import numpy as np
import pytest


@pytest.fixture(scope="module")
def world(part):
    return part("world.subjects")


@pytest.fixture(scope="module")
def identity(part):
    return part("evaluation.identity")


def alone(world, subject, seed=0):
    """A scene of one subject, and its picture."""
    rng = np.random.default_rng(seed)
    thing = world.Thing(subject.shape, "", None, 0.0, 0.0, 1.0)
    scene = world.SubjectScene(world.place(rng, (thing,)), (subject,), (0.6, 0.6, 0.6))
    return scene, world.render(scene)


def test_subjects_have_colours_without_a_name(world, part):
    rng, palette = np.random.default_rng(0), part("world.scenes").palette_rgb
    named = [palette(name) for name in part("world.scenes").PALETTE]
    subjects = [world.sample_subject(rng) for _ in range(200)]
    assert {subject.fill for subject in subjects} == set(world.FILLS)
    for subject in subjects:
        first, second = map(np.asarray, subject.colours)
        if subject.fill == "plain":
            assert min(np.linalg.norm(first - each) for each in named) >= world.APART
        else:
            assert np.linalg.norm(first - second) >= 2 * world.APART


def test_a_two_tone_fill_has_each_colour_on_its_side(world):
    red, blue = (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)
    fill = world.filled(world.Subject("square", "two-tone", (red, blue), 0.0), 32, 32, 20, 64)
    assert (fill[:, :32] == red).all() and (fill[:, 32:] == blue).all()
    turned = world.filled(world.Subject("square", "two-tone", (red, blue), 90.0), 32, 32, 20, 64)
    assert (turned[:32] == red).all() and (turned[32:] == blue).all()
    stripes = world.filled(world.Subject("square", "stripes", (red, blue), 0.0), 32, 32, 20, 64)
    changes = np.flatnonzero((np.diff(stripes[0], axis=0) != 0).any(1))
    assert np.allclose(np.diff(changes), 20 * world.STRIPE_WIDTH, atol=1)
    assert (stripes == stripes[:1]).all()


def test_coverage_is_that_of_the_picture(world):
    scene, picture = alone(world, world.Subject("heart", "plain", ((1.0, 0.0, 1.0),) * 2, 0.0))
    covered = world.coverage(scene.things[0], 16)
    drawn = (np.abs(picture - 0.6).max(2) > 0.2).reshape(16, 8, 16, 8).mean((1, 3))
    assert np.abs(covered - drawn).max() < 0.15
    assert abs(covered.mean() - drawn.mean()) < 0.005


def test_drawn_subjects_are_found_and_told_from_others(world, identity):
    rng = np.random.default_rng(1)
    found = best = shared = 0
    for seed in range(60):
        subject = world.sample_subject(rng)
        _, picture = alone(world, subject, seed)
        shape = identity.one_of(identity.shapes_in(picture), subject.shape)
        if shape is None:
            continue
        found += 1
        others = [world.sample_subject(rng, subject.shape) for _ in range(23)]
        best += identity.place_among(picture, shape, subject, others) == 0
        shared += identity.share_of_other(picture, shape, subject, world.sample_subject(rng)) > 0.05
    assert found >= 58
    assert best >= found - 1
    assert shared <= 1


def test_another_fill_in_the_shape_is_told(world, identity):
    red, blue, green, white = (1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 1.0, 0.0)
    own = world.Subject("circle", "two-tone", (red, blue), 0.0)
    other = world.Subject("square", "two-tone", (green, white), 0.0)
    _, picture = alone(world, world.Subject("circle", "two-tone", (green, blue), 0.0))
    [shape] = identity.shapes_in(picture)
    assert shape.name == "circle"
    assert identity.share_of_other(picture, shape, own, other) == pytest.approx(0.5, abs=0.05)
    assert identity.fill_error(picture, shape, own) > 0.4
    assert identity.place_among(picture, shape, own, [world.Subject("circle", "two-tone", (green, blue), 0.0)]) == 1
    assert identity.one_of([shape, shape], "circle") is None
