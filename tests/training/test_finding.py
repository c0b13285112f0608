"""Where entities are in a picture: on rendered scenes, whose masks are known exactly."""

from dataclasses import replace

import pytest
import torch

import tiny_detectors
from scenes import iou, mobile_sam, pictured

THREE, TWO = 57, 90
"""Seeds of a scene of three shapes and of one of two."""
SIZE = 128


@pytest.fixture
def finding(part):
    return part("training.comat.finding")


@pytest.fixture
def entity(part):
    """``entity("circle", "red")``: an entity of this noun and attribute."""
    parsing = part("parsing.binding")

    def make(noun: str, *attributes: str):
        phrases = tuple(parsing.Phrase(word, ()) for word in attributes)
        return parsing.Entity(noun, parsing.Phrase(noun, ()), phrases)

    return make


@pytest.fixture
def scenes(part):
    """Two pictures of the demo world's size."""
    return [pictured(part, seed, SIZE) for seed in (THREE, TWO)]


@pytest.fixture
def segmenter(part, comfy):
    folder = comfy.base / "models" / "sams"
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "mobile_sam.pt").exists():
        (folder / "mobile_sam.pt").symlink_to(mobile_sam())
    return part("segmentation.sam").load("mobile_sam.pt")


@pytest.fixture
def detector(part, comfy):
    """A small one with random weights, which finds what it wants; it wants pictures that are no squares."""
    tiny_detectors.write_grounding_dino(comfy.base / "models" / "grounding-dino" / "finding")
    return part("segmentation.detector_files").load("finding", False)


def batch(scenes) -> torch.Tensor:
    return torch.stack([scene.image for scene in scenes])


def compare(found, scenes, nouns, least: float) -> None:
    """Each mask is that of its noun's shape, or black where the scene has none."""
    assert found.shape == (len(scenes), len(nouns), SIZE, SIZE)
    assert found.dtype == torch.float32 and set(found.unique().tolist()) == {0.0, 1.0}
    for of_scene, scene in zip(found, scenes, strict=True):
        for mask, noun in zip(of_scene, nouns, strict=True):
            if noun in scene.masks:
                assert iou(mask, scene.masks[noun]) > least, noun
            else:
                assert not mask.any(), noun


def test_shapes_of_the_demo_world_are_found_by_their_nouns(finding, entity, scenes, part):
    nouns = [*part("world.names").SHAPES, "dog"]
    drawn = [set(scene.masks) for scene in scenes]
    assert drawn[0] != drawn[1] and all(1 < len(each) < len(nouns) - 1 for each in drawn)
    found = finding.ByShape().find(batch(scenes), [entity(noun, "red") for noun in nouns])
    compare(found, scenes, nouns, 0.9)


def test_a_mask_covers_the_mark_on_a_thing_and_all_things_of_its_shape(finding, entity, part):
    world = part("world.scenes")
    things = [
        world.Thing("circle", colour, mark, x, 64.0, 24.0)
        for colour, mark, x in (("red", "dot", 32.0), ("blue", None, 96.0))
    ]
    picture = torch.from_numpy(world.render(world.Scene(tuple(things), (0.7, 0.7, 0.7))))
    ((mask,),) = finding.ByShape().find(picture[None], [entity("circles")])
    rows, columns = torch.meshgrid(torch.arange(SIZE) + 0.5, torch.arange(SIZE) + 0.5, indexing="ij")
    discs = [(columns - thing.x).hypot(rows - thing.y) < thing.radius for thing in things]
    assert iou(mask, discs[0] | discs[1]) > 0.95
    assert mask[64, 32] == 1.0, "the dot's middle"


def test_pictures_of_a_training_are_looked_at_as_they_would_be_saved(finding, entity, scenes):
    """Beyond 0..1 and with a graph, as they come from the autoencoder."""
    pictures = batch(scenes)
    entities = [entity(noun) for noun in scenes[0].masks]
    expected = finding.ByShape().find(pictures, entities)
    spread = torch.where(pictures > 0.99, pictures + 0.5, pictures).requires_grad_()
    found = finding.ByShape().find(spread, entities)
    assert torch.equal(found, expected) and not found.requires_grad


@pytest.mark.slow
def test_what_a_detector_finds_is_cut_out(finding, entity, scenes, segmenter, part, monkeypatch):
    """The detector knows where things are; Segment Anything has real weights."""
    detection, boxes = part("segmentation.detection"), part("segmentation.boxes")
    nouns, asked = ["heart", "circle", "star", "square", "triangle", "cross"], []

    def entities_in(detector, picture, entities, search):
        scene = next(each for each in scenes if torch.equal(each.image, picture))
        asked.append((detector, search))
        known = {e.name: [boxes.Labelled(scene.boxes[e.name])] for e in entities if e.name in scene.boxes}
        return detection.Found(known, {})

    monkeypatch.setattr(finding, "entities_in", entities_in)

    class Detector:
        def to_device(self) -> None:
            asked.append("on its device")

    detector = Detector()
    with torch.inference_mode(False), torch.enable_grad():
        found = finding.BySegmenter(detector, segmenter).find(batch(scenes), [entity(noun, "red") for noun in nouns])
        compare(found, scenes, nouns, 0.85)
        weight = torch.ones((), requires_grad=True)
        (weight * found).sum().square().backward()
        assert weight.grad > 0, "a loss can be computed with the masks"
    assert asked == ["on its device", *[(detector, detection.Search(0.3, 0.25, False, "all"))] * 2]


@pytest.mark.slow
def test_a_noun_has_all_its_boxes_together_and_attributes_are_not_looked_for(
    finding, entity, scenes, segmenter, detector, part
):
    detection, prompts = part("segmentation.detection"), part("segmentation.prompts")
    picture, nouns = scenes[0].image[:, :80], ["circle", "square"]
    search = detection.Search(0.0, 0.0, False, "all")
    plain = [entity(noun) for noun in nouns]
    boxes = detection.entities_in(detector, picture, plain, search).boxes
    assert max(map(len, boxes.values())) > 1

    alone = [(noun, [prompts.Prompt(found.box)]) for noun in nouns for found in boxes.get(noun, ())]
    masks = segmenter.masks(picture, [prompt for _, prompt in alone], "best of three", lambda: None)

    def together(noun):
        mine = [mask for mask, (other, _) in zip(masks, alone, strict=True) if other == noun]
        return torch.stack(mine).amax(0) if mine else torch.zeros(SIZE, 80)

    finder = finding.BySegmenter(detector, segmenter, box_threshold=0.0, text_threshold=0.0)
    (found,) = finder.find(picture[None], [entity(noun, "red") for noun in nouns])
    assert torch.equal(found, torch.stack([together(noun) for noun in nouns]))


def test_what_no_detector_finds_is_black(finding, entity, scenes, segmenter, detector):
    finder = finding.BySegmenter(detector, segmenter, box_threshold=1.0)
    found = finder.find(batch(scenes)[:, :, :80], [entity("cat"), entity("dog")])
    assert found.shape == (2, 2, SIZE, 80) and not found.any()


def test_attention_becomes_masks(finding, entity, scenes):
    """Attention that lies where the things are; one entity got as much everywhere."""
    nouns = [*list(scenes[0].masks)[:2], "dog"]
    scene = scenes[0]
    maps = torch.stack([scene.masks.get(noun, torch.zeros(SIZE, SIZE)) for noun in nouns])
    maps = 0.01 + torch.nn.functional.avg_pool2d(maps, 8)[None] * torch.tensor([0.3, 0.1, 0.0])[:, None, None]
    found = finding.ByAttention().find(scene.image[None], [entity(noun) for noun in nouns], maps.requires_grad_())
    assert not found.requires_grad
    compare(found, [replace(scene, masks={noun: scene.masks[noun] for noun in nouns[:2]})], nouns, 0.65)


@pytest.mark.parametrize("shape", [None, (1, 2, 16, 16), (2, 1, 16, 16)])
def test_attention_of_other_entities_is_refused(finding, entity, scenes, shape):
    maps = None if shape is None else torch.rand(shape)
    told = "none" if shape is None else f"{shape[1]} in each of {shape[0]}"
    with pytest.raises(ValueError, match=f"each of 2 entities in each of 2 pictures; given: {told}"):
        finding.ByAttention().find(batch(scenes), [entity("circle"), entity("star")], maps)


def test_maps_of_entities_are_means_over_heads_words_and_layers(finding, part):
    Seen = part("training.network").Seen
    generator = torch.Generator().manual_seed(0)
    grids = [(4, 6), (4, 6), (2, 3)]
    seen = [Seen(None, grid, torch.rand(2, 3, grid[0] * grid[1], 4, generator=generator)) for grid in grids]
    columns = [slice(0, 1), slice(1, 3)]
    maps = finding.attention_maps(seen, 1, columns)
    assert maps.shape == (1, 2, 4, 6)

    def of_layer(each, own) -> torch.Tensor:
        rows, width = each.grid
        flat = [
            sum(each.maps[1, head, place, column].item() for head in range(3) for column in own) / (3 * len(own))
            for place in range(rows * width)
        ]
        grid = torch.tensor(flat).view(1, 1, rows, width)
        if each.grid != (4, 6):
            grid = torch.nn.functional.interpolate(grid, size=(4, 6), mode="bicubic").clamp(min=0)
        return grid[0, 0]

    for place, own in enumerate(([0], [1, 2])):
        expected = sum(of_layer(each, own) for each in seen) / len(seen)
        torch.testing.assert_close(maps[0, place], expected)
