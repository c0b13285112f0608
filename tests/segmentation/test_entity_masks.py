"""The maths of entity masks: attention to masks, overlaps, sizes, and the picture of them, against slow versions."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from attention_reference import bind
from recordings import recording

PROMPT, ENTITIES = "a red cat and a blue dog", "cat: red | dog: blue"


@pytest.fixture(scope="module")
def masks(part):
    return part("segmentation.entity_masks")


@pytest.fixture(scope="module")
def attention(part):
    return part("segmentation.attention_masks")


@pytest.fixture(scope="module")
def assigning(part):
    return part("segmentation.assigning")


@pytest.fixture(scope="module")
def binding(part, tiny):
    return bind(part, tiny("sd1").clip, PROMPT, ENTITIES).binding


def noise(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_of_overlapping_masks_the_smaller_is_in_front(masks):
    large, small = torch.zeros(4, 4), torch.zeros(4, 4)
    large[:3], small[2:, :1] = 1, 1
    found = masks.without_overlaps(torch.stack([large, small])[None], "smaller in front")[0]
    assert torch.equal(found[1], small)
    assert torch.equal(found[0], large * (1 - small))
    found = masks.without_overlaps(torch.stack([large, small])[None], "first in front")[0]
    assert torch.equal(found[0], large)
    assert torch.equal(found[1], small * (1 - large))
    assert torch.equal(
        masks.without_overlaps(torch.stack([large, small])[None], "keep")[0], torch.stack([large, small])
    )


@pytest.mark.parametrize("rule", ["smaller in front", "first in front"])
def test_overlaps_pixel_by_pixel(masks, rule):
    given = noise(2, 3, 5, 7)
    found = masks.without_overlaps(given, rule)
    for picture, of_picture in enumerate(given):
        order = sorted(range(3), key=lambda e: float(of_picture[e].sum())) if rule[0] == "s" else range(3)
        for row in range(5):
            for column in range(7):
                left = 1.0
                for entity in order:
                    had = min(float(of_picture[entity, row, column]), left)
                    assert float(found[picture, entity, row, column]) == pytest.approx(had, abs=1e-6)
                    left = max(0.0, left - float(of_picture[entity, row, column]))


def test_equal_masks_go_to_the_first_entity(masks):
    found = masks.without_overlaps(torch.ones(1, 2, 2, 2), "smaller in front")
    assert found[0].mean((-2, -1)).tolist() == [1, 0]


def test_missing_is_told_by_name_and_picture(masks, binding):
    found = torch.ones(2, 2, 3, 3)
    assert masks.missing(binding.entities, found) == []
    found[1, 0] = 0
    assert masks.missing(binding.entities, found) == ["cat (picture 2)"]
    assert masks.missing(binding.entities, found[1:]) == ["cat"]
    masks.check_found(["cat"], "empty mask")
    with pytest.raises(ValueError, match="Not found in the picture: cat.*lower the thresholds.*empty mask"):
        masks.check_found(["cat"], "stop")


def test_backgrounds_and_abstract_nouns_are_skipped(part, tiny, masks):
    bound = bind(
        part, tiny("sd1").clip, "a cat under blue skies, gold mountains", "cat | skies: blue | mountains"
    ).binding
    assert [each.name for each in masks.sought(bound, True).entities] == ["cat"]
    assert [each.name for each in masks.sought(bound, True).skipped] == ["skies", "mountains"]
    assert len(masks.sought(bound, False).entities) == 3
    only = replace(bound, entities=bound.entities[2:])
    with pytest.raises(ValueError, match="mountains: abstract nouns and backgrounds are skipped. Switch"):
        masks.sought(only, True)
    with pytest.raises(ValueError, match="no entity to make a mask of.*under blue skies"):
        masks.sought(replace(bound, entities=()), True)


def test_masks_of_all_pictures_in_one_batch(masks, binding):
    given = noise(3, 2, 4, 4)
    flat = masks.flat(given)
    assert torch.equal(flat[2 * 2 + 1], given[2, 1])
    grown = masks.with_masks(binding, binding.entities, given)
    assert torch.equal(grown.entities[1].mask, given[:, 1])
    assert binding.entities[1].mask is None


def test_otsu_is_the_best_of_all_thresholds(attention):
    values = torch.cat([noise(500) * 0.4, 0.55 + noise(200, seed=1) * 0.45])

    def between(threshold):
        low, high = values[values <= threshold].double(), values[values > threshold].double()
        return len(low) * len(high) * float(low.mean() - high.mean()) ** 2 if len(low) and len(high) else 0.0

    best = max(np.arange(1, 256) / 256, key=between)
    assert between(attention.otsu(values)) == pytest.approx(between(best), rel=1e-3)
    assert 0.4 <= attention.otsu(values) <= 0.55


def test_affinity_brings_attention_to_the_patches_that_are_looked_at(part, maps_module, attention, binding):
    affinity = noise(2, 16, 16).double().softmax(-1)
    cross = noise(1, 2, 3, 4, 4).double()
    grid = replace(recording(maps_module, [cross.float()]).grids[0], affinity=affinity.float())
    found = attention.spread(grid, [1, 0], 2)
    for latent in range(2):
        for place, label in enumerate((1, 0)):
            values = cross[0, latent, label].flatten().tolist()
            for _ in range(2):
                values = [sum(float(affinity[latent, i, j]) * values[j] for j in range(16)) for i in range(16)]
            assert found[latent, place].flatten().tolist() == pytest.approx(values, rel=1e-5)


@pytest.fixture(scope="module")
def maps_module(part):
    return part("attention.maps.recording")


def test_maps_of_several_grids_are_averaged_by_layers(part, maps_module, attention, binding):
    made = recording(maps_module)
    fine, coarse = made.grids
    made = replace(made, grids=(fine, replace(coarse, layers=("a", "b", "c"))))
    found = attention.entity_maps(made, binding.entities, (32, 32), 0)
    heat = part("attention.maps.heatmaps")
    for latent in range(2):
        plain = heat.heat_maps(made, latent, (32, 32))[0, :2]
        expected = heat.normalised(plain, *heat.ranges(plain[None], "each map"))[0]
        assert torch.allclose(found[latent], expected, atol=1e-5)


def test_recordings_that_will_not_do(maps_module, attention, binding):
    made = recording(maps_module)
    with pytest.raises(ValueError, match="no affinity to sharpen.*Switch affinity on.*sharpen to 0"):
        attention.entity_maps(made, binding.entities, (32, 32), 1)
    words = replace(made, labels=("red", "dog", "bird"))
    with pytest.raises(ValueError, match="no map of: cat. Its maps are: red, dog, bird"):
        attention.entity_maps(words, binding.entities, (32, 32), 0)


@pytest.mark.parametrize("method", ["threshold", "otsu", "highest"])
def test_masks_pixel_by_pixel(attention, method):
    maps = noise(2, 3, 6, 5)
    found = attention.masks_of(maps, attention.Cutting(method, 0.6, clean=False))
    for latent in range(2):
        for entity in range(3):
            for place in np.ndindex(6, 5):
                values = maps[latent][(slice(None), *place)].tolist()
                above = attention.otsu(maps[latent, entity]) if method == "otsu" else 0.6
                is_in = values[entity] > above and (method != "highest" or values[entity] == max(values))
                assert bool(found[latent, entity][place]) == is_in


def test_cleaning_fills_holes_and_drops_specks(attention):
    mask = np.zeros((12, 12), bool)
    mask[1:7, 1:7] = True
    mask[3, 3] = False
    mask[9:12, 9:12] = True
    mask[0, 11] = True
    expected = mask.copy()
    expected[3, 3], expected[0, 11] = True, False
    assert (attention.cleaned(mask) == expected).all()
    assert not attention.cleaned(np.zeros((4, 4), bool)).any()


def test_a_new_mask_in_front_and_behind(assigning, binding):
    left, right = torch.zeros(1, 2, 4), torch.zeros(1, 2, 4)
    left[..., :3], right[..., 1:] = 1, 1
    cat, dog = binding.entities
    before = assigning.with_mask(binding, cat, left, "keep both")
    for overlap, cats, dogs in (
        ("keep both", [1, 1, 1, 0], [0, 1, 1, 1]),
        ("new in front", [1, 0, 0, 0], [0, 1, 1, 1]),
        ("new behind", [1, 1, 1, 0], [0, 0, 0, 1]),
    ):
        after = assigning.with_mask(before, dog, right, overlap)
        assert after.entities[0].mask[0, 0].tolist() == cats
        assert after.entities[1].mask[0, 1].tolist() == dogs
    again = assigning.with_mask(before, before.entities[0], right, "new behind")
    assert torch.equal(again.entities[0].mask, right)
    with pytest.raises(ValueError, match="dog has masks for 3 pictures, and cat for 2"):
        assigning.with_mask(
            assigning.with_mask(binding, cat, left.repeat(2, 1, 1), "keep both"), dog, noise(3, 2, 4), "new in front"
        )


def test_batches_of_masks_are_picture_by_picture(assigning, binding):
    given = noise(6, 2, 2)
    found = assigning.by_entity(given, binding.entities)
    assert torch.equal(found[2, 0], given[4])
    with pytest.raises(ValueError, match="There are 5 masks for 2 entities \\(cat, dog\\)"):
        assigning.by_entity(noise(5, 2, 2), binding.entities)


def test_entities_are_named_once(assigning, binding):
    assert [each.name for each in assigning.named(binding, " ")] == ["cat", "dog"]
    assert [each.name for each in assigning.named(binding, "dog, 1")] == ["dog", "cat"]
    with pytest.raises(ValueError, match="cat is named twice"):
        assigning.named(binding, "1, cat")
    with pytest.raises(ValueError, match='no entity "horse". Its entities are: 1 = cat, 2 = dog'):
        assigning.named(binding, "horse")
    with pytest.raises(ValueError, match="no entities to give masks to"):
        assigning.named(replace(binding, entities=()), "")


def test_picture_has_the_colours_of_the_entities_where_they_are(part, binding):
    pictures, colours = part("segmentation.pictures"), part("attention.maps.colours").line_colours(2)
    left = torch.zeros(1, 32, 32)
    left[..., :16] = 1
    bound = binding.with_entity("cat", mask=left).with_entity("dog", box=(0.5, 0.5, 1.0, 1.0))
    entities, masks = pictures.regions(bound, (64, 64))
    assert masks.mean((-2, -1))[0].tolist() == pytest.approx([0.5, 0.25], abs=1e-3)
    sheet = pictures.drawn(torch.zeros(64, 64, 3), masks[0], entities, [], 1.0)
    assert sheet.shape[1:] == (512, 3) and sheet.shape[0] > 512
    for (x, y), colour in (((128, 20), colours[0]), ((384, 500), colours[1]), ((384, 100), (0, 0, 0))):
        assert (sheet[y, x] * 255 - torch.tensor(colour)).abs().max() < 2
    outlined = pictures.drawn(torch.zeros(64, 64, 3), masks[0], entities, [], 0.0)
    assert (outlined[128, 2] * 255 - torch.tensor(colours[0])).abs().max() < 2
    assert outlined[128, 128].sum() == 0


def test_nothing_to_draw(part, binding):
    pictures = part("segmentation.pictures")
    with pytest.raises(ValueError, match="No entity .* has a mask or a box. Its entities are: cat, dog"):
        pictures.regions(binding, (8, 8))
    uneven = binding.with_entity("cat", mask=noise(2, 8, 8)).with_entity("dog", mask=noise(3, 8, 8))
    with pytest.raises(ValueError, match="dog has masks for 3 pictures, and cat for 2"):
        pictures.regions(uneven, (8, 8))
