"""The demo model's world: what is drawn where, how often, and in which words."""

import numpy as np
import pytest


@pytest.fixture(scope="module")
def world(part):
    return part("world.scenes")


@pytest.fixture(scope="module")
def captions(part):
    return part("world.captions")


@pytest.fixture(scope="module")
def names(part):
    return part("world.names")


@pytest.fixture(scope="module")
def scenes(world):
    rng = np.random.default_rng(1)
    return [world.sample_scene(rng) for _ in range(2000)]


def test_every_shape_and_mark_is_drawn_in_its_colour(world, names):
    for shape in names.SHAPES:
        for mark in (None, *names.MARKS):
            thing = world.Thing(shape, "green", mark, 64.0, 60.0, 24.0)
            image = world.render(world.Scene((thing,), (0.6, 0.6, 0.6)))
            assert image.shape == (128, 128, 3) and image.dtype == np.float32
            green = np.abs(image - world.palette_rgb("green")).max(2) < 0.01
            white = np.abs(image - 1.0).max(2) < 0.01
            assert green.any() and not green[:, :30].any() and not green[:30].any()
            assert white.any() == (mark is not None)
            assert np.allclose(image[:20], 0.6)


def test_coverage_at_edges_sums_to_the_area(world):
    thing = world.Thing("circle", "red", None, 64.3, 63.7, 20.0)
    image = world.render(world.Scene((thing,), (0.0, 0.0, 0.0)))
    area = image[..., 0].sum() / world.palette_rgb("red")[0]
    assert area == pytest.approx(np.pi * 20.0**2, rel=0.005)


def test_a_crop_is_a_part_of_the_picture(world, scenes):
    whole = world.render(scenes[0])
    assert np.array_equal(world.render(scenes[0], 48, (40.0, 16.0)), whole[16:64, 40:88])


def test_things_stay_apart_and_inside(world, scenes):
    for scene in scenes:
        shapes = [thing.shape for thing in scene.things]
        assert len(set(shapes)) == len(shapes)
        for index, thing in enumerate(scene.things):
            assert thing.radius <= min(thing.x, thing.y, 128 - thing.x, 128 - thing.y)
            assert all(world.apart(thing, other) for other in scene.things[:index])


def test_statistics(world, names, scenes):
    counts = np.bincount([len(scene.things) for scene in scenes], minlength=5)[1:] / len(scenes)
    assert np.allclose(counts, world.THINGS_PROBABILITY, atol=0.04)
    things = [thing for scene in scenes for thing in scene.things]
    favourite = np.mean([names.FAVOURITE_COLOUR[thing.shape] == thing.colour for thing in things])
    assert favourite == pytest.approx(names.FAVOURITE_PROBABILITY, abs=0.03)
    marked = world.MARKED_SCENE_PROBABILITY * world.MARK_PROBABILITY
    assert np.mean([thing.mark is not None for thing in things]) == pytest.approx(marked, abs=0.03)
    pairs = [{thing.mark for thing in scene.things} for scene in scenes if len(scene.things) == 2]
    assert 0.12 < np.mean([marks == set(names.MARKS) for marks in pairs]) < 0.27
    assert {thing.colour for thing in things} == set(names.COLOURS)


def test_the_same_seed_gives_the_same_scene(world):
    first, second = (world.sample_scene(np.random.default_rng(5)) for _ in range(2))
    assert first == second


def test_captions_for_people(world, captions):
    circle = world.Thing("circle", "orange", "dot", 0.0, 0.0, 1.0)
    square = world.Thing("square", "blue", None, 0.0, 0.0, 1.0)
    assert captions.plain_caption((circle, square)) == "an orange circle with a dot and a blue square"
    assert captions.bare_caption((circle, square, circle)) == "a circle, a square and a circle"


def test_captions_vary_but_name_everything_in_the_plain_form(world, captions, scenes):
    rng = np.random.default_rng(2)
    said = [captions.sample_caption(rng, scene.things) for scene in scenes]
    assert len(set(said)) > 800
    full = [
        all(thing.colour in words and thing.shape in words for thing in scene.things)
        for scene, words in zip(scenes, said, strict=True)
    ]
    assert 0.65 < np.mean(full) < 0.9


def test_a_caption_names_what_is_drawn_and_sometimes_more(part, world, names, monkeypatch):
    naming = part("world.naming")
    monkeypatch.setattr(naming, "EXCHANGED_PROBABILITY", {})
    monkeypatch.setattr(naming, "MARK_PROBABILITY", 0.5)
    rng = np.random.default_rng(4)
    shapes = ("circle", "square", "star", "heart")
    for drawn, probability in naming.NOT_DRAWN_PROBABILITY.items():
        things = tuple(world.Thing(shape, "red", "dot", 10.0, 20.0, 5.0) for shape in shapes[:drawn])
        named = [naming.sample_named(rng, things) for _ in range(1500)]
        assert all(each[:drawn] == things for each in named)
        assert all(len({thing.shape for thing in each}) == len(each) for each in named)
        more = np.bincount([len(each) - drawn for each in named], minlength=len(probability)) / len(named)
        assert np.allclose(more, probability, atol=0.05)
        assert drawn + len(probability) - 1 == len(shapes)
        marks = [
            thing.mark == names.FAVOURITE_MARK[thing.shape] for each in named for thing in each[drawn:] if thing.mark
        ]
        assert drawn == 4 or np.mean(marks) == pytest.approx(naming.FAVOURITE_MARK_PROBABILITY, abs=0.06)


def test_a_caption_exchanges_colours_and_marks(part, world, monkeypatch):
    naming = part("world.naming")
    monkeypatch.setattr(naming, "NOT_DRAWN_PROBABILITY", {1: (1.0,), 3: (1.0,)})
    rng = np.random.default_rng(6)

    def named(*marks):
        shapes, colours = ("circle", "square", "star"), ("red", "blue", "green")
        things = [world.Thing(*what, 10.0, 20.0, 5.0) for what in zip(shapes, colours, marks, strict=False)]
        return [naming.sample_named(rng, tuple(things)) for _ in range(2000)]

    assert len(set(named("dot"))) == 1
    said = named("dot", "bar", None)
    assert all({thing.colour for thing in things} == {"red", "blue", "green"} for things in said)
    assert all({thing.mark for thing in things[:2]} == {"dot", "bar"} and things[2].mark is None for things in said)
    colours = [[thing.colour for thing in things] != ["red", "blue", "green"] for things in said]
    assert np.mean(colours) == pytest.approx(naming.EXCHANGED_PROBABILITY["colour"], abs=0.04)
    marks = [things[0].mark == "bar" for things in said]
    assert np.mean(marks) == pytest.approx(naming.EXCHANGED_PROBABILITY["mark"], abs=0.04)
    assert {tuple(thing.mark for thing in things) for things in named("dot", None, None)} == {("dot", None, None)}


def test_every_word_is_one_piece_of_the_tokenizer(part, comfy, captions, scenes):
    text = part("demo.text")
    vocabulary = text.load_vocabulary()
    from comfy.sd1_clip import SD1Tokenizer

    tokenizer = SD1Tokenizer()
    rng = np.random.default_rng(3)
    for caption in {captions.sample_caption(rng, scene.things) for scene in scenes[:60]}:
        expected = [token for token, _ in tokenizer.tokenize_with_weights(caption)["l"][0]]
        rows, _ = vocabulary.batch([caption])
        assert [vocabulary.token_ids[row] for row in rows[0]] == expected
