"""The detector on rendered scenes, whose content is known: clean, disturbed like the model's pictures, and touching."""

import numpy as np
import pytest
from scipy import ndimage

SCENES = 200


@pytest.fixture(scope="module")
def world(part):
    return part("world.scenes")


@pytest.fixture(scope="module")
def detect(part):
    return part("evaluation.detect").detect


@pytest.fixture(scope="module")
def scenes(world):
    rng = np.random.default_rng(11)
    return [world.sample_scene(rng, favourite_probability=0.3) for _ in range(SCENES)]


def things_in(scene):
    return sorted((thing.shape, thing.colour, thing.mark or "") for thing in scene.things)


def things_found(found):
    return sorted((thing.shape or "?", thing.colour or "?", thing.mark or "") for thing in found)


def share_right(detect, scenes, images):
    right = [things_found(detect(image)) == things_in(scene) for scene, image in zip(scenes, images, strict=True)]
    return np.mean(right)


def test_clean_scenes(detect, world, scenes):
    assert share_right(detect, scenes, [world.render(scene) for scene in scenes]) >= 0.99


def test_noise_and_blur(detect, world, scenes):
    rng = np.random.default_rng(12)

    def disturb(image):
        blurred = ndimage.gaussian_filter(image, (1.2, 1.2, 0.0))
        return np.clip(blurred + rng.normal(0.0, 0.06, image.shape), 0.0, 1.0)

    assert share_right(detect, scenes, [disturb(world.render(scene)) for scene in scenes]) >= 0.97


def test_masks_and_boxes(detect, world):
    thing = world.Thing("square", "purple", "dot", 50.0, 70.0, 20.0)
    (found,) = detect(world.render(world.Scene((thing,), (0.8, 0.8, 0.8))))
    assert found.mask.shape == (128, 128) and found.mask[70, 50]
    assert np.allclose(found.box, (50 - 17.6, 70 - 17.6, 50 + 17.6, 70 + 17.6), atol=1.5)
    assert found.mask.sum() == pytest.approx(35.2**2, rel=0.05)
    assert found.shape_score > 0.95 and found.purity > 0.95


@pytest.mark.parametrize("half_size", [(0.62, 0.16), (0.75, 0.16)])
@pytest.mark.parametrize("shape", ["triangle", "star", "circle", "heart"])
def test_bars_that_open_or_cut_the_outline(detect, world, monkeypatch, shape, half_size):
    monkeypatch.setattr(world, "BAR_HALF_SIZE", half_size)
    things = [world.Thing(shape, "blue", "bar", 40.0, 60.0 + 0.3 * step, 18.0 + step) for step in range(8)]
    beside = world.Thing("square", "blue", None, 100.0, 60.0, 18.0)
    for thing in things:
        scene = world.Scene((thing, beside), (0.7, 0.7, 0.7))
        assert things_found(detect(world.render(scene))) == things_in(scene)


@pytest.mark.parametrize("background", [0.3, 0.5, 0.95])
def test_plain_ground_is_empty(detect, world, background):
    assert detect(world.render(world.Scene((), (background,) * 3))) == []


def test_touching_things_of_two_colours(detect, world):
    left = world.Thing("circle", "red", None, 42.0, 64.0, 22.0)
    right = world.Thing("square", "blue", None, 81.0, 64.0, 22.0)
    found = detect(world.render(world.Scene((left, right), (0.7, 0.7, 0.7))))
    assert things_found(found) == things_in(world.Scene((left, right), (0.7,) * 3))


def test_touching_things_of_one_colour(detect, world):
    left = world.Thing("circle", "green", None, 40.0, 64.0, 20.0)
    right = world.Thing("circle", "green", None, 79.0, 64.0, 20.0)
    found = detect(world.render(world.Scene((left, right), (0.7, 0.7, 0.7))))
    assert things_found(found) == things_in(world.Scene((left, right), (0.7,) * 3))


def test_a_shape_of_two_colours_has_no_colour(detect, world):
    image = world.render(world.Scene((world.Thing("heart", "green", None, 64.0, 64.0, 26.0),), (0.7, 0.7, 0.7)))
    half = image[:, :64]
    half[np.abs(half - world.palette_rgb("green")).max(2) < 0.3] = world.palette_rgb("orange")
    (found,) = detect(image)
    assert found.shape == "heart" and found.colour is None
    assert found.colour_share["green"] == pytest.approx(0.5, abs=0.1)
    assert found.colour_share["orange"] == pytest.approx(0.5, abs=0.1)


def test_a_shape_of_the_world_is_not_seen_in_another(detect):
    image = np.full((128, 128, 3), 0.7, np.float32)
    image[60:68, 20:108] = (0.1, 0.7, 0.2)
    (found,) = detect(image)
    assert found.shape is None and found.colour == "green"


def test_scale_of_the_picture(detect, world):
    thing = world.Thing("star", "yellow", None, 128.0, 110.0, 60.0)
    (found,) = detect(world.render(world.Scene((thing,), (0.6, 0.6, 0.6)), size=256))
    assert (found.shape, found.colour, found.mark) == ("star", "yellow", None)
